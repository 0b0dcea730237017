"""One worker process as its pool sees it: start, messages, output, limits, end."""

import mmap
import os
import pickle
import socket
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress

from aem_agent.pools import wire, worker_guard
from aem_agent.pools.base import EnvTimeoutError, PoolLimits
from aem_agent.pools.remote import NOBODY, Link
from aem_agent.pools.spawning import ending, kill, let_go, shared_file, spawn
from aem_agent.pools.watch import Watch
from aem_agent.pools.worker import WORDS, settings_json
from aem_envs.sanitize import plain

KEPT_OUTPUT = 4096
"""Bytes of a worker's last output that are kept for error messages."""
CLOSING = 30.0
"""Seconds that closing an environment may take where no limit of a step is set."""
SILENT = 10.0
"""Seconds, at least, after which a worker that takes no requests is given up, where a limit of a step is set."""
BROKEN = (OSError, ValueError)


class WorkerProcess(Link):
    """A process that holds many environments. Its `ready` is done once it has made the first.

    Args:
        make_env: pickled.
        spawner: its thread starts the process, and must live as long: the worker is killed when that thread ends.
        tick: seconds between two calls of `check`, about.
    """

    def __init__(self, make_env: bytes, limits: PoolLimits, spawner: Executor, tick: float) -> None:
        super().__init__(limits)
        self.blocking = False
        ours, theirs = socket.socketpair()
        self._socket = ours
        with theirs, shared_file() as words:
            os.truncate(words.fileno(), 8 * WORDS)
            self._shared = mmap.mmap(words.fileno(), 8 * WORDS)
            read, write = os.pipe()
            try:
                settings = settings_json(limits, theirs.fileno(), words.fileno())
                self.guard = spawner.submit(spawn, settings, theirs.fileno(), words.fileno(), write).result()
            except BaseException:
                os.close(read)
                ours.close()
                raise
            finally:
                os.close(write)
        self._killer = weakref.finalize(self, kill, self.guard)
        self._pid = 0
        self._words = memoryview(self._shared).cast("q")
        self._output_from = read
        self._output = b""
        os.set_blocking(read, False)
        ours.setblocking(False)
        self._records = wire.Records()
        self._outgoing: list[bytes] = []
        self._unsent = memoryview(b"")
        self._full = False
        """The worker is slow to read: the rest is sent when it can be."""
        self._posted = 0
        self._watch = Watch(time.monotonic(), tick)
        self.attach()
        self.post(0, make_env)

    @property
    def pid(self) -> int:
        """The worker's process id, and that of its session; 0 before it has one."""
        if not self._pid and self._socket.fileno() >= 0:
            self._pid = self._words[worker_guard.PID]
        return self._pid

    def attach(self) -> None:
        self.loop.add_reader(self._socket, self._read)
        self.loop.add_reader(self._output_from, self._read_output)
        if self._unsent:
            self.loop.add_writer(self._socket, self._write)
        elif self._outgoing:
            self.loop.call_soon(self._flush)

    def post(self, number: int, payload: bytes) -> None:
        if not self._outgoing and not self._unsent:
            self.loop.call_soon(self._flush)
        self._posted += 1
        self._outgoing += (wire.HEADER.pack(number, len(payload), 0), payload)

    def quit(self) -> None:
        """Ask the worker to close its environments and end; `exited` tells when it has."""
        self.post(0, b"")
        self._flush()

    def exited(self) -> bool:
        """Whether the process has ended, with all that was started from it."""
        if self.guard.poll() is None:
            return False
        self._killer.detach()
        return True

    def end(self) -> None:
        """Have the process killed with all that it started, and free what it used here; harmless when repeated.
        `exited` tells when it is done."""
        if self._socket.fileno() < 0:
            return
        self.pid  # noqa: B018  # is kept
        if not self.loop.is_closed():
            for descriptor in (self._socket.fileno(), self._output_from):
                self.loop.remove_reader(descriptor)
            self.loop.remove_writer(self._socket)
        self._socket.close()
        os.close(self._output_from)
        self._words.release()
        self._shared.close()
        let_go(self.guard)

    def fail(self, reason: str, culprit: int = 0, *, timeout: bool = False) -> None:
        """End the process; its episodes fail. See `Link.lose`."""
        if self.lost:
            return
        self._read_output()
        output = plain(self._output[-KEPT_OUTPUT:].decode(errors="replace"))
        self.end()
        self.lose(reason, culprit, timeout=timeout, output=output)

    def check(self, now: float, memory: Callable[[int], int] | None) -> None:
        """Fail what has exceeded a limit. Called every `tick` seconds or so; `memory` tells how much a process uses."""
        self._read()  # answers that came while this process was busy elsewhere are in time
        if self.lost:
            return
        if self._words[worker_guard.STATUS] or self.exited():
            self._died()
            return
        watch, step = self._watch, self.limits.step
        watch.look(now, self._words[0], self._words[1], self._words[2], self._posted)
        self.stood = watch.stood
        number = self._words[0]
        if not self.ready.done():
            if self.limits.start is not None and now - watch.begun > self.limits.start:
                self.fail(f"was not ready within {self.limits.start:g} s", timeout=True)
        elif number < 0 and watch.busy(now) > (CLOSING if step is None else step):
            self.fail("was busy closing another environment for too long", NOBODY)
        elif step is not None and number > 0 and watch.busy(now) > step:
            self.fail(f"took more than {step:g} s for one call", number, timeout=True)
        elif step is not None and watch.behind(now) > max(SILENT, step) and not number:
            self.fail("does not respond")
        elif memory is not None and self.limits.memory is not None:
            used = memory(self.guard.pid)
            if used > self.limits.memory:  # of several environments, any may have taken it, and long ago
                self.fail(f"used {used >> 20} MiB, more than {self.limits.memory >> 20} MiB")
        if not self.lost and (self.blocking or self.limits.episode is not None):
            self._check_episodes(now, step if self.blocking else None, number)

    def _check_episodes(self, now: float, step: float | None, busy: int) -> None:
        """Calls in threads can be given up alone; of others only those that are not yet being made."""
        for session in list(self.sessions.values()):
            if session.waiting is None or session.waiting.done():
                continue
            if step is not None and session.waited(now) > step:
                session.fail(EnvTimeoutError(f"the environment took more than {step:g} s for one call"))
            elif session.overdue(now):
                if busy == session.number:
                    self.fail(f"was killed: {session.too_long()}", busy, timeout=True)
                    return
                session.fail(session.too_long())

    def _culprit(self) -> int:
        """The environment that is being called, negative while one is closed; of those in threads only if it is the
        only one, calls that were given up included. 0: not known."""
        if not self.blocking:
            number: int = self._words[0]
            return number
        if self.owing():
            return NOBODY
        waiting = [session.number for session in self.sessions.values() if session.waiting is not None]
        return waiting[0] if len(waiting) == 1 else 0

    def _died(self) -> None:
        for _ in range(500):  # its end of the connection closes a moment before it is gone
            if self._words[worker_guard.STATUS] or self.exited():
                break
            time.sleep(0.002)
        status = self._words[worker_guard.STATUS]
        reason = ending(status - 1) if status else "ended" if self.exited() else "closed its connection"
        self.fail(reason, self._culprit())

    def _read(self) -> None:
        while self._socket.fileno() >= 0:
            try:
                data = self._socket.recv(wire.CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.loop.remove_reader(self._socket)
                if not self.lost:
                    self._died()
                return
            if self.lost:  # it is ending: nobody waits for answers any more
                continue
            for number, kind, payload in self._records.feed(data):
                if number:
                    self.deliver(number, kind, payload)
                else:
                    self._started(kind, payload)
            if len(data) < wire.CHUNK:
                return

    def _started(self, kind: int, payload: bytes) -> None:
        if kind == wire.READY:
            self.blocking = pickle.loads(payload)
            if not self.ready.done():
                self.ready.set_result(None)
        elif not self.ready.done():
            self.ready.set_exception(wire.unpacked_error(payload))
            self.fail("could not make an environment")

    def _read_output(self) -> None:
        with suppress(*BROKEN):
            for _ in range(16):  # then others have their turn
                data = os.read(self._output_from, 1 << 16)
                if not data:
                    if not self.loop.is_closed():
                        self.loop.remove_reader(self._output_from)
                    return
                self._output = (self._output + data)[-KEPT_OUTPUT:]

    def _flush(self) -> None:
        if self.lost or self._unsent or not self._outgoing:
            return
        self._unsent = memoryview(b"".join(self._outgoing))
        self._outgoing.clear()
        self._write()

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:  # the reader will see that it is gone
            sent = len(self._unsent)
        waited = sent < len(self._unsent)
        self._unsent = self._unsent[sent:]
        if waited:
            self._full = True
            self.loop.add_writer(self._socket, self._write)
            return
        if self._full:
            self._full = False
            self.loop.remove_writer(self._socket)
        if self._outgoing:
            self._flush()
