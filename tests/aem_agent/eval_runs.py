"""`aem-eval` in this process and in one of its own, and what it recorded."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aem_agent.cli import main
from aem_agent.records import read_episodes
from aem_agent.types import Episode

TROUBLED_ID = "troubled:test/Troubled-v0"
"""The environment of the fixture `workplace`."""


def aem_eval(*arguments: str) -> int:
    """Run in this process; the exit code."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


def start(*arguments: str, **more: object) -> "subprocess.Popen[str]":
    """Run in a process of its own."""
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{Path.cwd()}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "aem_agent.cli", *arguments]
    return subprocess.Popen(command, env=env, stdout=-1, stderr=-1, text=True, **more)  # type: ignore[call-overload, no-any-return]


def wait_for_episodes(folder: Path, count: int) -> None:
    file, deadline = folder / "episodes.jsonl", time.monotonic() + 30
    while not file.exists() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "no episode was recorded"
        time.sleep(0.02)


def episodes(folder: str) -> dict[tuple[str, int], Episode]:
    return {(e.task_id, e.repeat): e.identity() for e in read_episodes(Path(folder) / "episodes.jsonl")}
