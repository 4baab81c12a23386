"""What docs/danger.md says can be typed, and prints what it says."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from saferl.danger.__main__ import main

GUIDE = (Path(__file__).parents[2] / "docs" / "danger.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:\w*)\n(.*?)```", GUIDE, re.DOTALL)


def block(word: str) -> str:
    (found,) = [each for each in BLOCKS if word in each]
    return found


def test_the_first_command_finds_its_rule(tmp_path, capsys):
    (command,) = re.findall(r"^python -m saferl\.danger (env=.*)$", GUIDE, re.MULTILINE)
    assert main([*command.split(), "seeds=1", f"out={tmp_path}/o"]) == 0
    printed = capsys.readouterr().out
    rule = re.search(r"^1\. .*$", block("20 of 20 seeds ended"), re.MULTILINE)
    assert rule is not None
    assert rule[0] in printed  # seed 0, word by word


def test_the_rules_of_logged_episodes_are_the_ones_shown(capsys):
    exec(block("random_episodes(env, 100)"), {})
    assert capsys.readouterr().out.strip() == BLOCKS[BLOCKS.index(block("random_episodes(env, 100)")) + 1].strip()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_stand_in_for_a_language_model_is_asked_and_one_of_its_rules_is_dropped(tmp_path, capsys, monkeypatch):
    port = free_port()
    code = block("HTTPServer((").replace("8000", str(port))
    server = subprocess.Popen([sys.executable, "-c", code], env={"PATH": os.environ["PATH"]})
    try:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        monkeypatch.setenv("OPENAI_MODEL", "fixed")
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        words = ["env=boat_race", "noise=fp", "p=0.2", "backend=llm", "rounds=3"]
        assert main([*words, f"out={tmp_path}/o"]) == 0
    finally:
        server.terminate()
        server.wait()
    printed = capsys.readouterr().out
    shown = block("Go round with the arrows.\nIn literals")
    for line in shown.strip().splitlines()[:3]:
        assert line in printed
    assert "enters(v)" not in printed
