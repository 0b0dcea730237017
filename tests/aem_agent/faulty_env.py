"""An environment that breaks as its task's name says; importable, so that worker processes can make it."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from aem_agent.types import TaskRef
from aem_envs.core import InfrastructureError, TextEnv

ENV = "test/Faulty-v0"
SECONDS: dict[str, Any] = {"clock": 1.5, "words": {"start": "soon"}}
"""What some tasks give as seconds at their reset, instead of seconds by phase."""


class FaultyEnv(TextEnv):
    """Four steps; at the third, a task "FAULT-N" breaks. With `once`, a folder, each does so only the first time."""

    def __init__(self, once: str | None = None) -> None:
        super().__init__(split="test")
        self.once = None if once is None else Path(once)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        assert options is not None
        self.begin(seed)
        self.task_id = options["task_id"]
        self.steps = 0
        self.details = {"n": 0}
        fault = self.task_id.partition("-")[0]
        return "start", {"seconds": SECONDS[fault]} if fault in SECONDS else {}

    def step(self, action: str) -> Any:
        self.steps += 1
        if self.steps == 3 and self._breaks():
            fault = self.task_id.partition("-")[0]
            if fault != "ok" and fault not in SECONDS:
                return getattr(self, f"_{fault}")()
        done = self.steps == 4
        drawn = int(self.np_random.integers(1000))
        self.details["n"] = self.steps
        info = {"won": done, "score": float(done), "details": self.details}
        return f"step {self.steps}: {drawn}", float(done), done, False, info

    def _breaks(self) -> bool:
        if self.once is None:
            return True
        mark = self.once / self.task_id
        if mark.exists():
            return False
        mark.touch()
        return True

    def _raise(self) -> Any:
        raise ZeroDivisionError("a bug of the environment")

    def _infra(self) -> Any:
        raise InfrastructureError("the page went away")

    def _quit(self) -> Any:
        sys.exit("tired of it")

    def _mute(self) -> Any:
        class MuteError(Exception):
            def __str__(self) -> str:
                raise ValueError("no words")

        raise MuteError

    def _loop(self) -> Any:
        circle: dict[str, Any] = {}
        circle["again"] = circle
        return "text", 0.0, False, False, {"details": circle}

    def _cancel(self) -> Any:
        raise asyncio.CancelledError

    def _types(self) -> Any:
        return b"bytes", None, "no", 1, []

    def _nan(self) -> Any:
        return "text", float("nan"), False, False, {}

    def _hang(self) -> Any:
        time.sleep(3600)

    def _exit(self) -> Any:
        os._exit(13)

    def _print(self) -> Any:
        line = "x" * 99_999
        for _ in range(1000):
            print(line)
        sys.stdout.flush()
        return self.step("go on")


def faulty(*names: str) -> list[TaskRef]:
    return [TaskRef(ENV, name, "test") for name in names]
