"""`aem/Toy-v0`: a corridor, a locked door, two chests. Small and deterministic, for tests and tutorials."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any
from zlib import crc32

import numpy as np

from aem_envs import snapshot
from aem_envs.actions import read_action, shown
from aem_envs.core import BadOptionError, BadStateError, Capabilities, TextEnv
from aem_envs.info import NO_TIME

COLOURS = ("red", "blue")
_FORMAT = "aem/Toy-v0"
_FIELDS = {
    "task_id": str,
    "seed": int,
    "rng": list,
    "room": int,
    "key": bool,
    "unlocked": bool,
    "steps": int,
    "running": bool,
}


@dataclass(frozen=True)
class Corridor:
    """One task: rooms 1 … `rooms` from west to east, both chests in the last."""

    rooms: int
    start: int
    chest: str
    """Colour of the chest to open; the other one ends the episode in failure."""
    key: int | None = None
    """Room of the key, west of the door; None: there is no door."""
    door: int | None = None
    """The room whose way east is locked."""

    @property
    def task_id(self) -> str:
        lock = f"-key{self.key}-door{self.door}" if self.door else ""
        return f"rooms{self.rooms}-start{self.start}-{self.chest}{lock}"

    @property
    def task_type(self) -> str:
        return "unlock" if self.door else "walk"


@cache
def corridors() -> dict[str, dict[str, Corridor]]:
    """Every task by split and id. One in four is held out for `test`, by the checksum of its id."""
    found: dict[str, dict[str, Corridor]] = {"train": {}, "test": {}}
    for rooms in (3, 4, 5):
        for start in range(1, rooms):
            locks = [(None, None), *((key, door) for door in range(start, rooms) for key in range(1, door + 1))]
            for chest in COLOURS:
                for key, door in locks:
                    task = Corridor(rooms, start, chest, key, door)
                    split = "test" if crc32(task.task_id.encode()) % 4 == 0 else "train"
                    found[split][task.task_id] = task
    return found


class ToyEnv(TextEnv):
    """A corridor of rooms with two chests in the last: open the right one (reward 1); the wrong one ends the episode.

    Actions: go east, go west, take key, unlock door, open red chest, open blue chest. Task types: `walk`, and `unlock`,
    where a key must be fetched first. Everything is deterministic given the task.

    Keyword arguments: `split` ("train", "test"), `max_steps` (50), `render_mode` ("ansi", "human", "html").
    """

    capabilities = Capabilities(snapshot=True, deepcopy=True, admissible_actions=True)
    splits = ("train", "test")

    def __init__(self, *, split: str | None = None, max_steps: int = 50, render_mode: str | None = None) -> None:
        super().__init__(split=split, max_steps=max_steps, render_mode=render_mode)
        self._task: Corridor | None = None
        self._room, self._key, self._unlocked = 1, False, False
        self._steps, self._running = 0, False

    def task_ids(self, split: str, limit: int | None = None) -> Sequence[str]:
        """Task ids of `split`, all of them if `limit` is None."""
        return list(corridors()[self._known_split(split)])[: self._known_limit(limit)]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start the task of `options["task_id"]`, else one drawn from `options["split"]`."""
        self.begin(seed)
        split, task_id = self.choose_task(options)
        self._task = corridors()[split][task_id]
        self._room, self._key, self._unlocked = self._task.start, False, False
        self._steps, self._running = 0, True
        observation = f"{self._look()}\nYour task is to: open the {self._task.chest} chest."
        self.show(None, observation)
        return observation, self._info(observation, None, None, None)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Act once; see the class for the actions."""
        task = self._running_task()
        parsed, error = read_action(action)
        if error is None and parsed not in self._admissible():
            error = "the action is not possible here"
        observation, won, failed = "Nothing happens.", False, False
        if error is None and parsed is not None:
            won = parsed == f"open {task.chest} chest"
            failed = parsed.startswith("open") and not won
            observation = self._apply(parsed)
        self._steps += 1
        terminated = won or failed
        truncated = not terminated and self._steps >= self.max_steps
        self._running = not (terminated or truncated)
        self.show(shown(action), observation)
        info = self._info(observation, error is None, error, parsed)
        info["won"], info["score"] = won, float(won)
        info["truncation_reason"] = "max_steps" if truncated else None
        return observation, float(won), terminated, truncated, info

    def plan(self) -> str:
        """The best next action: what `ToyExpert` does with its knowledge of the state."""
        task = self._running_task()
        if task.door and not self._unlocked:
            if not self._key and task.key:
                return "take key" if self._room == task.key else self._towards(task.key)
            return "unlock door" if self._room == task.door else self._towards(task.door)
        return f"open {task.chest} chest" if self._room == task.rooms else "go east"

    def get_state(self) -> bytes:
        """Snapshot of the episode, the random generator's state included."""
        if self._task is None:
            raise BadStateError("no episode to snapshot: call reset first")
        fields = {
            "task_id": self._task.task_id,
            "seed": self.begin(None),
            "rng": snapshot.rng_to_json(self.np_random),
            "room": self._room,
            "key": self._key,
            "unlocked": self._unlocked,
            "steps": self._steps,
            "running": self._running,
        }
        return snapshot.pack(_FORMAT, fields)

    def set_state(self, state: bytes) -> None:
        """Return to a snapshot, of any task; raises `BadStateError` and changes nothing if it is not one."""
        found = snapshot.unpack(state, _FORMAT, _FIELDS)
        try:
            task = corridors()[self.split_of(found["task_id"])][found["task_id"]]
        except BadOptionError as error:
            raise BadStateError(str(error)) from error
        snapshot.within(found["room"], 1, task.rooms, "room")
        snapshot.steps_taken(found["steps"], found["running"], self.max_steps)
        snapshot.within(found["seed"], 0, snapshot.MAX_SEED, "seed")
        if (found["key"] or found["unlocked"]) and not task.door:
            raise BadStateError(f"task {task.task_id!r} has no key and no door")
        self._np_random = snapshot.rng_from_json(found["rng"])
        self._seed, self._task, self._room = found["seed"], task, found["room"]
        self._key, self._unlocked, self._steps, self._running = (
            found["key"],
            found["unlocked"],
            found["steps"],
            found["running"],
        )

    def close(self) -> None:
        """End the episode; harmless when repeated."""
        self._task, self._running = None, False

    def _running_task(self) -> Corridor:
        if self._task is None or not self._running:
            raise self.reset_needed(started=self._task is not None)
        return self._task

    def _towards(self, room: int) -> str:
        return "go east" if room > self._room else "go west"

    def _admissible(self) -> list[str]:
        assert self._task is not None
        task, room = self._task, self._room
        locked_here = room == task.door and not self._unlocked
        actions = [f"open {colour} chest" for colour in COLOURS] if room == task.rooms else []
        if room < task.rooms and not locked_here:
            actions.append("go east")
        if room > 1:
            actions.append("go west")
        if room == task.key and not self._key:
            actions.append("take key")
        if locked_here and self._key:
            actions.append("unlock door")
        return sorted(actions)

    def _apply(self, action: str) -> str:
        """Carry out an admissible action and say what comes of it."""
        if action.startswith("open"):
            return f"You {action.replace('open', 'open the')}."
        if action == "take key":
            self._key = True
            return "You take the key."
        if action == "unlock door":
            self._unlocked = True
            return "You unlock the door."
        self._room += 1 if action == "go east" else -1
        return self._look()

    def _look(self) -> str:
        assert self._task is not None
        task, room = self._task, self._room
        text = f"You are in room {room} of {task.rooms}."
        if room == task.key and not self._key:
            text += " You see a key."
        if room == task.door:
            text += f" The door to the east is {'open' if self._unlocked else 'locked'}."
        if room == task.rooms:
            text += " You see a red chest and a blue chest."
        return text

    def _info(self, observation: str, valid: bool | None, error: str | None, parsed: str | None) -> dict[str, Any]:
        assert self._task is not None and self._seed is not None
        task_id = self._task.task_id
        state = f"{task_id} {self._room} {self._key} {self._unlocked} {self._running}"
        return {
            "task_id": task_id,
            "split": self.split_of(task_id),
            "task_type": self._task.task_type,
            "seed": self._seed,
            "won": False,
            "score": 0.0,
            "admissible_actions": self._admissible() if self._running else [],
            "action_valid": valid,
            "action_error": error,
            "parsed_action": parsed,
            "raw_obs": observation,
            "anchor": blake2b(state.encode(), digest_size=8).hexdigest(),
            "data_hash": f"{crc32(task_id.encode()):08x}",
            "engine": "toy",
            "steps": self._steps,
            "truncation_reason": None,
            "details": {},
            "seconds": NO_TIME,
        }


class ToyExpert:
    """Plays `aem/Toy-v0` in the fewest steps; with probability `noise` it takes a random admissible action instead."""

    def __init__(self, noise: float = 0.0, seed: int = 0) -> None:
        if not 0 <= noise <= 1:
            raise BadOptionError(f"noise is a probability, not {noise!r}")
        self._noise, self._seed = noise, seed
        self._env: ToyEnv | None = None

    def reset(self, env: TextEnv, observation: str, info: dict[str, Any]) -> None:
        """Start an episode on `env`; its seed and this expert's determine the noise."""
        if not isinstance(env, ToyEnv):
            raise BadOptionError(f"this expert plays aem/Toy-v0, not {type(env).__name__}")
        self._env = env
        self._rng = np.random.default_rng([self._seed, info["seed"]])

    def act(self, observation: str, info: dict[str, Any]) -> str:
        """The next action."""
        assert self._env is not None, "call reset first"
        if self._rng.random() < self._noise:
            actions: list[str] = info["admissible_actions"]
            return actions[int(self._rng.integers(len(actions)))]
        return self._env.plan()
