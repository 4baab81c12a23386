"""What every command shares."""

import os
import subprocess
import sys

import pytest

from saferl.command_line import guarded


def test_a_reader_that_stops_reading_gets_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "saferl.harden", "--help"]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert ended.returncode == 141
    assert ended.stderr == ""


def test_another_pipe_that_breaks_is_a_bug_and_is_raised():
    def worker_died():
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        guarded("train", worker_died)
