"""Episodes on the real engine with the native `Game`'s interface: shared worker processes, snapshots by replay."""

import os
import threading
import weakref
from hashlib import blake2b
from pathlib import Path
from typing import Any

from aem_envs.actions import MAX_ACTION
from aem_envs.alfworld.real import RealEngineError, RealEngineMissingError, RealGame, RealWorker
from aem_envs.core import BadStateError

_lock = threading.RLock()  # re-entrant: the garbage collector may end a lease while one is being taken
_leases: dict[RealWorker, int] = {}
"""Running workers of this process, and how many games each holds."""


def lease() -> RealWorker:
    """The worker with the fewest games, or a new one while processors outnumber them. `release` gives it back."""
    with _lock:
        for dead in [worker for worker in _leases if not worker.alive]:
            del _leases[dead]
        full = len(_leases) >= (os.cpu_count() or 1)
        worker = min(_leases, key=_leases.__getitem__) if full else RealWorker()
        _leases[worker] = _leases.get(worker, 0) + 1
        return worker


def release(worker: RealWorker) -> None:
    """Give back a lease; the process ends with its last game."""
    with _lock:
        if worker not in _leases:
            return
        _leases[worker] -= 1
        if not _leases[worker]:
            del _leases[worker]
            worker.close()


def _load(source: Path | str, name: str) -> tuple[RealWorker, RealGame]:
    worker = lease()
    try:
        return worker, RealGame(source, name=name, worker=worker)
    except BaseException:
        release(worker)
        raise


class RealPlay:
    """One episode on the real engine."""

    def __init__(self, source: Path | str, name: str) -> None:
        """Load a game file or its JSON text.

        Raises:
            RealEngineError: the engine is not installed, or its process broke.
            GameFileError: it refuses the file.
        """
        self._actions: list[str] = []
        try:
            worker, self._game = _load(source, name)
        except RealEngineMissingError:
            raise
        except RealEngineError:  # another game may have brought the shared worker down: once more, in a new one
            worker, self._game = _load(source, name)
        self._end_lease = weakref.finalize(self, release, worker)

    @property
    def won(self) -> bool:
        """The goal holds."""
        return self._game.won

    def reset(self) -> str:
        """Start over; returns banner, room and task."""
        self._actions.clear()
        return self._game.reset()

    def step(self, command: str) -> str:
        """Act; returns the feedback."""
        self._actions.append(command)
        return self._game.step(command)

    def admissible(self) -> list[str]:
        """Every command that would be accepted now, sorted."""
        return self._game.admissible()

    def anchor(self) -> str:
        """Hash of the admissible commands: where the agent is, what it holds and sees, which doors are open."""
        return blake2b("\n".join(self._game.admissible()).encode(), digest_size=8).hexdigest()

    def state(self) -> dict[str, Any]:
        """What leads here: the engine has no snapshots of its own."""
        return {"actions": list(self._actions)}

    def load_state(self, plain: dict[str, Any]) -> None:
        """Replay the actions of `state` from the start (about 50 ms each); raises `BadStateError`."""
        actions = plain.get("actions")
        if plain.keys() != {"actions"} or not isinstance(actions, list):
            raise BadStateError("the snapshot's 'game' must hold the list of actions that led to it")
        if not all(isinstance(action, str) and len(action) <= MAX_ACTION for action in actions):
            raise BadStateError("the snapshot's 'game' holds something that is no action")
        self.reset()
        for action in actions:
            self.step(action)

    def close(self) -> None:
        """Free the game; harmless when repeated."""
        if self._end_lease.alive:
            self._game.close()
            self._end_lease()
