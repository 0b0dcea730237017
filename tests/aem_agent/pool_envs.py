"""Environments and policies that misbehave on demand, for the tests of pools. Workers import this module by name."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from aem_agent.types import Decision, Response, TaskRef
from aem_envs.core import BadOptionError, Capabilities, InfrastructureError, TextEnv
from aem_envs.plugins import UnknownPluginError
from envs_data.errors import GameFileError

TASK = TaskRef("test/Odd-v0", "0", "test")
MIB = 1 << 20


class NamedError(Exception):
    """Needs two arguments, and has no pickle."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Unreadable:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> Any:
        return (int, ("no number",))


CHILD = """
import os, sys, time
with open(sys.argv[1], "a") as file:
    print(os.getpid(), file=file, flush=True)
    print(flush=True)
    sys.stdin.read()
    time.sleep(0.3)
    print("clean", file=file, flush=True)
    time.sleep(3600)
"""
"""As guards of browsers do, but that it never ends."""


class Odd(TextEnv):
    """Does what its actions say. Episodes end with "end"."""

    def __init__(self, log: str = "") -> None:
        super().__init__(split="test", max_steps=1000, render_mode=None)
        self.log = log
        self.kept: list[bytearray] = []
        self.stuck_close = False
        self._note("made")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        assert options is not None
        if options["task_id"] == "refused":
            raise BadOptionError("no such task")
        self.steps, self.seed = 0, seed
        return f"task {options['task_id']} seed {seed}", {"pid": os.getpid()}

    def step(self, action: str) -> Any:
        self.steps += 1
        word, _, rest = action.partition(" ")
        if word and hasattr(self, f"do_{word}"):
            odd = getattr(self, f"do_{word}")(rest)
            if odd is not None:
                return odd
        done = word == "end"
        return f"{self.steps} {action}", float(done), done, False, {"won": done, "pid": os.getpid()}

    def close(self) -> None:
        self._note("closed")
        if self.stuck_close:
            time.sleep(3600)
        if self.kept:
            raise OSError("cannot close")

    def _note(self, what: str) -> None:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{what}\n")

    def do_signal(self, name: str) -> None:
        os.kill(os.getpid(), getattr(signal, name))

    def do_exit_by(self, number: str) -> None:
        os.kill(os.getpid(), int(number))

    def do_exit(self, status: str) -> None:
        print("last words \x1b[31m")
        os._exit(int(status))

    def do_segfault(self, rest: str) -> None:
        ctypes.string_at(0)

    def do_sleep(self, seconds: str) -> None:
        time.sleep(float(seconds))

    def do_spin(self, rest: str) -> None:
        while True:
            pass

    def do_hold(self, seconds: str) -> None:
        """Keep the interpreter's lock: no other thread of this process can run."""
        ctypes.PyDLL(None).sleep(int(seconds))

    def do_print(self, mib: str) -> None:
        for _ in range(int(mib)):
            sys.stdout.write("x" * MIB)
            os.write(2, b"y" * 1000)

    def do_leak(self, mib: str) -> None:
        self.kept.append(bytearray(b"x") * (int(mib) * MIB))

    def do_huge(self, mib: str) -> Any:
        return "x" * (int(mib) * MIB), 0.0, False, False, {}

    def do_child(self, path: str) -> None:
        """A child in a session of its own, that notes its pid, and when its parent is gone."""
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", CHILD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()

    def do_stick(self, rest: str) -> None:
        self.stuck_close = True

    def do_break_close(self, rest: str) -> None:
        self.kept.append(bytearray())

    def do_types(self, rest: str) -> Any:
        return 7, 0.0, False, False, {}

    def do_short(self, rest: str) -> Any:
        return "three", 0.0, False

    def do_reward(self, rest: str) -> Any:
        return "text", float("nan"), False, False, {}

    def do_function(self, rest: str) -> Any:
        return "text", 0.0, False, False, {"f": lambda: 0}

    def do_unreadable(self, rest: str) -> Any:
        return "text", 0.0, False, False, {"f": Unreadable()}

    def do_raise(self, name: str) -> None:
        class Local(Exception):
            pass

        errors: dict[str, BaseException] = {
            "option": BadOptionError("of its options"),
            "plugin": UnknownPluginError("of its plugins"),
            "data": GameFileError("of its data"),
            "infra": InfrastructureError("of its page"),
            "named": NamedError("one", "two"),
            "local": Local("from inside"),
            "mute": Mute(),
            "system": SystemExit(3),
            "stop": StopIteration("halt"),
            "cancelled": asyncio.CancelledError("gone"),
            "large": ValueError("x" * MIB),
        }
        raise errors[name]


class Waiting(Odd):
    """The same, played in threads."""

    capabilities = Capabilities(blocking=True)


class Choosy(Odd):
    """Cannot be made."""

    def __init__(self) -> None:
        raise BadOptionError("not with these options")


class Dying(Odd):
    """Its process dies while it is made, while the file `path` exists."""

    def __init__(self, path: str) -> None:
        super().__init__()
        if Path(path).exists():
            print("no licence found")
            os._exit(7)


class Once(Odd):
    """Cannot be made in the worker that is the second to create `path` with a number."""

    def __init__(self, path: str) -> None:
        super().__init__()
        with open(path, "a") as file:
            file.write("x")
        if Path(path).stat().st_size == 2:
            raise OSError("port in use")


class Threaded(Waiting):
    """Knows where it was made."""

    made: "list[threading.Thread]" = []  # noqa: RUF012

    def __init__(self, seconds: float = 0.0) -> None:
        self.made.append(threading.current_thread())
        if len(self.made) > 1:
            time.sleep(seconds)
        super().__init__()


class Hanging(Odd):
    def __init__(self) -> None:
        time.sleep(3600)


class Hosted:
    """A policy that lives with the environment: says in which process it is, or does as its name says."""

    trainable, needs_env = False, True

    def __init__(self, name: str = "where") -> None:
        self.name = name

    def start(self, env: Any, task: TaskRef, seed: int) -> "HostedEpisode":
        if self.name == "refuse":
            raise BadOptionError("not this one")
        assert isinstance(env, Odd) and env.seed == seed
        return HostedEpisode(self.name)

    async def aclose(self) -> None: ...


class Said:
    """A decision that changes."""

    def __init__(self) -> None:
        self.action = ""


class HostedEpisode:
    together = 0
    """Episodes that wait for each other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waits = name != "lie"
        self.said = Said()

    async def act(self, observation: str, info: dict[str, Any]) -> Decision:
        if self.name == "lie":
            await asyncio.sleep(0)
        if self.name == "reuse":
            self.said.action += "a"
            return self.said  # type: ignore[return-value]
        if self.name == "limited":
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0.01))
        if self.name.startswith("together "):
            HostedEpisode.together += 1
            expected = int(self.name.split()[1])
            while HostedEpisode.together % expected:
                await asyncio.sleep(0.01)
        if self.name == "forever":
            await asyncio.sleep(3600)
        if self.name == "fail":
            await asyncio.sleep(0.01)
            raise GameFileError("of the policy")
        if self.name == "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        return Decision(Response(observation), f"{os.getpid()}|{info['pid']}")
