"""The client against an endpoint on this machine: form, failures, log, replay, and the key that must not leak."""

import json
import logging
import socket

import pytest

from saferl.danger.language_model import (
    LanguageModel,
    LanguageModelError,
    ReplayServer,
    language_model_from_environment,
)
from tests.danger.endpoints import Scripted, completion

KEY = "sk-test-4f9a8b7c6d"
ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Größe?"}]


def model_at(url: str, **settings) -> LanguageModel:
    return LanguageModel(url, "small", **({"key": KEY, "pause": 0.0, "timeout": 5.0} | settings))


def refused(model: LanguageModel) -> str:
    with pytest.raises(LanguageModelError) as error:
        model.complete(ASK)
    assert "\n" not in str(error.value)
    assert KEY not in str(error.value)
    return str(error.value)


def test_a_request_has_openais_form():
    with Scripted(["12 m"]) as server:
        answer = model_at(server.base_url + "/", temperature=0.3, max_tokens=50).complete(ASK, seed=7)
    assert answer == "12 m"
    assert server.paths == ["/v1/chat/completions"]
    assert server.requests == [{"model": "small", "messages": ASK, "temperature": 0.3, "max_tokens": 50, "seed": 7}]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert server.headers[0]["Content-Type"] == "application/json"


def test_without_a_key_or_a_seed_none_is_sent():
    with Scripted(["x"]) as server:
        model_at(server.base_url, key=None).complete(ASK)
    assert "Authorization" not in server.headers[0]
    assert "seed" not in server.requests[0]


@pytest.mark.parametrize("trouble", [(503, {"error": {"message": "busy"}}, {}), (429, b"", {}), "cut"])
def test_passing_trouble_is_tried_again(trouble):
    with Scripted([trouble, trouble, "at last"]) as server:
        assert model_at(server.base_url).complete(ASK) == "at last"
    assert len(server.requests) == 3


def test_after_three_tries_the_last_reason_is_told():
    with Scripted([(503, {"error": {"message": "busy\nvery busy"}}, {})]) as server:
        text = refused(model_at(server.base_url))
    assert text == f"language model at {server.base_url} after 3 tries: HTTP 503, busy very busy."
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {"error": {"message": f"Incorrect API key provided: {KEY}."}}, {}),
         "HTTP 401, Incorrect API key provided: ***; check OPENAI_API_KEY."),
        ((404, {"error": "no such model"}, {}), "HTTP 404, no such model; check OPENAI_BASE_URL and OPENAI_MODEL."),
        ((400, b"<html>", {}), "HTTP 400, Bad Request."),
        ((302, b"", {"Location": "http://127.0.0.1:9/"}), "HTTP 302, Found."),
        ((200, b"<html>hello</html>", {}), "the answer is no chat completion (Expecting value: line 1"),
        ((200, {"choices": []}, {}), "the answer is no chat completion (list index out of range); check OPENAI_BASE"),
        ((200, completion(None), {}), "the answer is no chat completion (its content is NoneType, not text)"),
        ((200, b"x" * 10_000_001, {}), "the answer is no chat completion (it is longer than 10 MB)"),
    ],
)  # fmt: skip
def test_what_another_try_will_not_mend_is_told_at_once(answer, message):
    with Scripted([answer]) as server:
        text = refused(model_at(server.base_url))
    assert text.startswith(f"language model at {server.base_url}: {message}")
    assert len(server.requests) == 1


def test_a_silent_endpoint_times_out():
    with Scripted(["slow"]) as server:
        text = refused(model_at(server.base_url, timeout=0.05, tries=2))
    assert text == f"language model at {server.base_url} after 2 tries: no answer (timed out)."


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "after 2 tries: no answer (" in refused(model_at(f"http://127.0.0.1:{port}/v1", tries=2))


def test_the_pause_doubles(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("saferl.danger.language_model.time.sleep", pauses.append)
    with Scripted([(500, b"", {})]) as server:
        refused(model_at(server.base_url, pause=1.0))
    assert pauses == [1.0, 2.0]


def test_the_key_goes_to_no_other_host():
    with Scripted(["stolen"]) as other, Scripted([(307, b"", {"Location": other.base_url})]) as server:
        refused(model_at(server.base_url))
    assert other.requests == []


def test_every_try_is_logged_and_the_key_never(tmp_path, caplog, capfd):
    log = tmp_path / "new folder" / "log.jsonl"
    busy = (503, {"error": {"message": f"key {KEY} is busy"}}, {})
    with caplog.at_level(logging.DEBUG), Scripted([busy, f"your key is {KEY}", "fine"]) as server:
        model = model_at(server.base_url, log=log)
        model.complete(ASK)
        model.complete([*ASK, {"role": "user", "content": f"is {KEY} a key?"}])
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [set(line) for line in lines] == [
        {"time", "url", "request", "error"}, {"time", "url", "request", "response"},
        {"time", "url", "request", "response"},
    ]  # fmt: skip
    assert lines[0]["error"] == "HTTP 503, key *** is busy."
    assert lines[1]["response"] == completion("your key is ***")
    assert lines[0]["request"]["messages"] == ASK
    told = log.read_text(encoding="utf-8") + caplog.text + "".join(capfd.readouterr()) + repr(model) + str(model)
    assert KEY not in told


@pytest.mark.parametrize("key", ["a b", "line\nbreak", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_without_telling_it(key):
    with pytest.raises(LanguageModelError, match="OPENAI_API_KEY holds a space or a character") as error:
        LanguageModel("http://localhost/v1", "small", key)
    assert key not in str(error.value)


@pytest.mark.parametrize("url", ["ftp://x/v1", "localhost:8000", "http://", "http://me:secret@host/v1"])
def test_a_url_that_can_not_be_asked_is_refused(url):
    with pytest.raises(LanguageModelError, match=r"OPENAI_BASE_URL must be http\(s\)://host") as error:
        LanguageModel(url, "small")
    assert "secret" not in str(error.value)


def test_the_environment_names_the_model(monkeypatch, tmp_path):
    for name in ("OPENAI_BASE_URL", "OPENAI_MODEL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LanguageModelError, match="needs the environment variable OPENAI_BASE_URL and OPENAI_MODEL: "):
        language_model_from_environment()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    with pytest.raises(LanguageModelError, match="needs the environment variable OPENAI_MODEL: "):
        language_model_from_environment()
    monkeypatch.setenv("OPENAI_MODEL", "small")
    assert language_model_from_environment().key is None
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model = language_model_from_environment(log=tmp_path / "log", temperature=0.0)
    assert model == LanguageModel("http://localhost:1/v1", "small", KEY, 0.0, log=tmp_path / "log")


def test_a_log_that_can_not_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with Scripted(["x"]) as server, pytest.raises(LanguageModelError, match="the exchange can't be logged"):
        model_at(server.base_url, log=tmp_path / "file" / "log.jsonl").complete(ASK)


def test_a_log_is_replayed_word_by_word(tmp_path):
    log = tmp_path / "log.jsonl"
    other = [{"role": "user", "content": "else"}]
    with Scripted(["one", (503, b"", {}), "two", "three"]) as server:
        model = model_at(server.base_url, log=log)
        recorded = [model.complete(ASK), model.complete(other), model.complete(ASK)]
    with ReplayServer(log) as replay:
        again = model_at(replay.base_url, key="another-key")
        assert [again.complete(other), again.complete(ASK), again.complete(ASK)] == ["two", "one", "three"]
        assert recorded == ["one", "two", "three"]
        assert "HTTP 404, this request is not in the recording" in refused(again)  # a third time
        assert len(replay.refused) == 1


def test_what_is_no_log_is_refused(tmp_path):
    with pytest.raises(LanguageModelError, match="no log to replay"):
        ReplayServer(tmp_path / "nowhere")
    (tmp_path / "log").write_text('{"request": {}}\n{"requ\n')
    with pytest.raises(LanguageModelError, match="log, line 2: not an exchange with a language model"):
        ReplayServer(tmp_path / "log")
