"""`scale.processes`: the processes of a run on this machine, started, watched and ended together.

They get what torchrun would give them (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), so the same command
under torchrun, on several machines, is the same run. On one machine torchrun itself is not used, because it knows only
of ending processes: here Ctrl-C lets the run finish its step and save, a failure gives the others time to say their
own, no port is guessed (the first process inherits the listening socket), nothing listens outside this machine, and all
are gone when this process is, however it went.

Standard library only: it runs before anything else is loaded.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from trainer.stopping import SAID

LAUNCHER, LISTENING = "AEM_LAUNCHER", "AEM_LISTENING"
"""In the environment of what is started: the launcher's process id; the descriptor of the socket to meet at."""

GRACE = 20.0
"""Seconds that the others have to end by themselves once one has failed."""
KILL_AFTER = 5.0
"""Seconds between asking a process to end and killing it."""
POLL = 0.05
_SET_DEATH_SIGNAL = 1
"""Of prctl(2)."""
_COMMAND = "import sys; sys.path[:] = {path!r}; from trainer.cli import main; main()"
"""What this process would import, and not what lies in the current folder, as `-m` would."""


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `aem-train ARGUMENTS` as so many processes, and return the exit code: the first one that is not 0.

    The first Ctrl-C is passed to the first process, which finishes the step with the others.

    Raises:
        KeyboardInterrupt: at the second Ctrl-C, when all have ended.
    """
    children: list[subprocess.Popen[bytes]] = []
    with _signals(children):
        try:
            with socket.create_server(("127.0.0.1", 0)) as meeting:
                children.extend(_start(rank, processes, arguments, meeting) for rank in range(processes))
            return _watch(children)
        finally:
            _end(children)


def launched() -> bool:
    """Whether this process is one that `launch` has started; `trainer.world.opened` forgets it."""
    return LAUNCHER in os.environ


def end_with_parent() -> None:
    """Linux: this process is killed when the one that started it is gone: a run of which a part is lost cannot go on.

    torchrun's workers are told too; of its own accord it would leave them behind if it is killed.
    """
    launcher = os.environ.get(LAUNCHER)
    if launcher is None and "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    _die_with_parent()
    if launcher is not None and os.getppid() != int(launcher):  # it went before we asked
        os._exit(1)


def _start(rank: int, processes: int, arguments: Sequence[str], meeting: socket.socket) -> "subprocess.Popen[bytes]":
    host, port = meeting.getsockname()
    own = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
        LAUNCHER: os.getpid(),
    }
    if rank == 0:
        own[LISTENING] = meeting.fileno()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC_")}
    environment = {**kept, **{name: str(value) for name, value in own.items()}}
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND.format(path=sys.path), *arguments],
        env=environment,
        pass_fds=[meeting.fileno()] if rank == 0 else [],
        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
        preexec_fn=_die_with_parent,  # no threads here
    )


def _watch(children: "Sequence[subprocess.Popen[bytes]]") -> int:
    """Wait until all have ended, or `GRACE` after one has failed; those that are done may be so long before others."""
    since = None
    while any(child.poll() is None for child in children):
        if any(child.poll() for child in children):
            since = since or time.monotonic()
            if time.monotonic() - since > GRACE:
                break
        time.sleep(POLL)
    for rank, child in enumerate(children):
        if child.returncode is not None and child.returncode < 0:
            name = signal.Signals(-child.returncode).name
            print(f"error: process {rank} was ended by {name}", file=sys.stderr)
            return 2
    return next((child.returncode for child in children if child.returncode), 0)


@contextmanager
def _signals(children: "Sequence[subprocess.Popen[bytes]]") -> Iterator[None]:
    """Ctrl-C to the first process; again, and what asks this process to end, ends all.

    The second is not passed on: a process that waits for another's message runs no handler until it comes.
    """
    asked, ending = 0, False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            with suppress(OSError):
                os.write(2, SAID)  # the first process may not come to it for a while
            for child in children[:1]:
                _send(child, signal.SIGINT)
        elif asked == 2 and not ending:
            raise KeyboardInterrupt

    def end(number: int, frame: Any) -> None:
        nonlocal ending
        if not ending:  # once: the children are ended on the way
            ending = True
            sys.exit(128 + number)

    # what is ignored, as under nohup, stays so; but Ctrl-C is for a run wherever it was begun, as in one process
    ends = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    handlers = {signal.SIGINT: interrupt, **dict.fromkeys(ends, end)}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end(children: "Sequence[subprocess.Popen[bytes]]") -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        for child in children:
            if child.poll() is None:
                _send(child, how)
        until = time.monotonic() + KILL_AFTER
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, until - time.monotonic()))


def _send(child: "subprocess.Popen[bytes]", number: int) -> None:
    with suppress(ProcessLookupError):
        child.send_signal(number)


def _die_with_parent() -> None:
    """Linux only; elsewhere processes that are left alone end at their next message to one that is gone."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
