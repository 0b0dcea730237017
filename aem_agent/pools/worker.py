"""The main program of a worker process of `ProcessPool`."""

import json
import mmap
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
from multiprocessing import spawn
from typing import Any

from aem_agent.pools import wire, worker_guard
from aem_agent.pools.base import PoolLimits
from aem_agent.pools.host import Host

START = (
    "import json, sys; settings = json.loads(sys.argv[1]); sys.path[:] = settings['path']; "
    "from aem_agent.pools.worker import main; main(settings)"
)
"""Program of a worker, to be given to `python -c` with `main`'s settings as JSON."""
WORDS = worker_guard.COUNT
"""Integers shared with the parent: the two of `Host`, a count of requests that were taken, and two of the guard's."""
GRACE = 2.0
"""Seconds a worker has to close its environments once its parent is gone."""
WAIT = 0.001
"""Seconds that an answer may wait for others to be sent with it."""
PREPARING = False
"""True while the user's main module is imported in a worker."""


def main(settings: dict[str, Any]) -> None:
    """Serve until told to quit, or until the parent is gone.

    `settings`: `socket` and `words` (file descriptors), `path` (sys.path), `prepare` (how to import the
    user's main module), `step` (seconds that an act may wait). The first record that arrives is the pickled `make_env`.
    """
    # not SIG_IGN, which the environments' own processes would inherit: Ctrl-C is the parent's to handle
    signal.signal(signal.SIGINT, lambda number, frame: None)
    connection = socket.socket(fileno=settings["socket"])
    threading.Thread(target=_watch, args=(connection,), daemon=True).start()
    with mmap.mmap(settings["words"], 8 * WORDS) as shared:
        os.close(settings["words"])
        words = memoryview(shared).cast("q")
        try:
            _serve(connection, words, settings["prepare"], settings["step"])
        finally:
            words.release()


def _serve(connection: socket.socket, words: Any, prepare: dict[str, Any], step: float | None) -> None:
    outbox = _Outbox(connection)
    records = wire.Records()
    host: Host | None = None
    load = _Loader(prepare)
    while data := connection.recv(wire.CHUNK):
        batch = list(records.feed(data))
        outbox.alone = len(batch) == 1
        for number, _, payload in batch:
            words[2] += 1
            if number:
                assert host is not None
                host.handle(number, payload)
            elif host is None:
                try:
                    host = Host(load(payload), outbox.put, words, load, step)
                except BaseException as error:
                    outbox.put(0, wire.ERROR, wire.packed_error(error))
                    outbox.flush()
                    return
                outbox.put(0, wire.READY, pickle.dumps(host.blocking))
            else:
                host.close_all()
                return
        outbox.flush()
    if host is not None:
        host.close_all()


class _Loader:
    """Unpickles. What lives in the user's main module has it imported first, as multiprocessing does."""

    def __init__(self, prepare: dict[str, Any]) -> None:
        self._prepare: dict[str, Any] | None = prepare

    def __call__(self, pickled: bytes) -> Any:
        global PREPARING
        if self._prepare is not None and b"__main__" in pickled:
            prepare, self._prepare, PREPARING = self._prepare, None, True
            try:
                spawn.prepare(prepare)
            finally:
                PREPARING = False
        return pickle.loads(pickled)


class _Outbox:
    """Answers of the main thread wait to be sent together, until all requests at hand are served, but never long; those
    of other threads are sent at once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._records: list[bytes] = []
        self._since = 0.0
        self._late = threading.Event()
        self._sender: threading.Thread | None = None
        self._main = threading.get_ident()
        self.alone = False
        """The answer at hand has no others to wait for."""

    def put(self, number: int, kind: int, payload: bytes) -> None:
        """Take an answer, from any thread."""
        data = wire.record(number, kind, payload)
        with self._lock:
            if not self._records:
                self._since = time.monotonic()
                if not self.alone:
                    self._late.set()
            self._records.append(data)
        if self._sender is None:
            self._sender = threading.Thread(target=self._send_late, daemon=True)
            self._sender.start()
        if threading.get_ident() != self._main or time.monotonic() - self._since > WAIT:
            self.flush()

    def flush(self) -> None:
        """Send what lies here."""
        with self._lock:
            if self._records:
                data = b"".join(self._records)
                self._records.clear()
                self._connection.sendall(data)

    def _send_late(self) -> None:
        """Send what waits, also while the main thread is busy with a slow environment."""
        while self._late.wait():
            self._late.clear()
            time.sleep(2 * WAIT)
            self.flush()


def _watch(connection: socket.socket) -> None:
    """The parent closed the connection: what this process is busy with interests nobody any more."""
    closed = select.poll()
    closed.register(connection, getattr(select, "POLLRDHUP", select.POLLHUP))
    closed.poll()
    time.sleep(GRACE)
    os._exit(0)


def settings_json(limits: PoolLimits, connection: int, words: int) -> str:
    """`main`'s settings for a worker of this process."""
    prepare = spawn.get_preparation_data("env-worker")
    kept = ("name", "init_main_from_name", "init_main_from_path")
    return json.dumps(
        {
            "step": limits.step,
            "socket": connection,
            "words": words,
            "path": sys.path,
            "prepare": {key: prepare[key] for key in kept if key in prepare},
        }
    )
