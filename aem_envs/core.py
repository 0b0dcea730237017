"""The contract of every environment: free text in and out, fixed `info` keys, typed errors, plain-data snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from string import ascii_lowercase
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces

MAX_TEXT = 1_000_000
"""Characters a text may have before `FreeText` refuses it."""


class AemEnvError(Exception):
    """Base of all errors raised by environments. The message says what to do next."""


class ResetNeededError(AemEnvError, gym.error.ResetNeeded):
    """`step` was called before `reset`, after the episode had ended, or after `close`."""


class BadOptionError(AemEnvError, ValueError):
    """An unknown option, or a value outside its range."""


class BadStateError(AemEnvError, ValueError):
    """`set_state` was given data that is not a snapshot of this environment and task."""


class InfrastructureError(AemEnvError):
    """What an environment stands on broke (process, container, page). Episodes end truncated with reason `infra:…`."""


def one_of(name: str, value: object, known: Sequence[str]) -> None:
    """Raise `BadOptionError` unless `value` is one of the `known` ones."""
    if value not in known:
        raise BadOptionError(f"unknown {name} {value!r}; known: {', '.join(known)}")


@dataclass(frozen=True)
class Capabilities:
    """What an environment can do; the contract tests follow it."""

    snapshot: bool = False
    """`get_state`/`set_state` work."""
    deepcopy: bool = False
    """`copy.deepcopy` and pickle give an independent environment."""
    admissible_actions: bool = False
    """`info["admissible_actions"]` is a list."""
    rgb_array: bool = False
    blocking: bool = False
    """Its calls wait for other processes, for seconds: rollouts play several at once in threads."""


class FreeText(spaces.Space[str]):
    """Any `str` of at most `max_length` characters, the empty one included.

    Gymnasium's `Text` refuses characters outside a fixed alphabet. Lone surrogates are refused: they cannot be
    written to a record.
    """

    def __init__(self, max_length: int = MAX_TEXT, seed: int | np.random.Generator | None = None) -> None:
        self.max_length = max_length
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A short random word; `mask` and `probability` have no meaning here."""
        letters = self.np_random.integers(97, 123, size=int(self.np_random.integers(1, 12)))
        return "".join(map(chr, letters))

    def contains(self, x: Any) -> bool:
        if not isinstance(x, str) or len(x) > self.max_length:
            return False
        try:
            x.encode()
        except UnicodeEncodeError:
            return False
        return True

    def __repr__(self) -> str:
        return f"FreeText(max_length={self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeText) and other.max_length == self.max_length

    __hash__ = None  # type: ignore[assignment]


class Expert(Protocol):
    """Plays one environment. `expert` may read the engine's state; `expert-search` only texts."""

    def reset(self, env: "TextEnv", observation: str, info: dict[str, Any]) -> None:
        """Start an episode on `env` (unwrapped)."""
        ...

    def act(self, observation: str, info: dict[str, Any]) -> str:
        """The next action, given the newest observation and info."""
        ...


class TextEnv(gym.Env[str, str]):
    """Base class. A subclass implements `reset`, `step`, `task_ids`, and what its `capabilities` declare.

    Rewards are native and unscaled. Success or failure of the task is `terminated`; a limit or broken infrastructure is
    `truncated` with `info["truncation_reason"]`. A malformed action never ends the episode and never raises.

    `close` ends the episode: `step` then needs a `reset`, as at the beginning.

    A subclass' `reset` begins with `begin` and `choose_task`; `reset` and `step` end with `show`, which feeds `render`.
    """

    capabilities = Capabilities()
    splits: tuple[str, ...] = ("train", "test")
    max_steps: int
    """Actions allowed per episode; set by the subclass."""
    observation_space: spaces.Space[str] = FreeText()
    action_space: spaces.Space[str] = FreeText()
    metadata: dict[str, Any] = {"render_modes": ["ansi", "human", "html"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(self, *, split: str | None = None, max_steps: int = 50, render_mode: str | None = None) -> None:
        """`split` is the one `reset` draws from unless its options name another (default: the first of `splits`)."""
        self.split = self._known_split(self.splits[0] if split is None else split)
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise BadOptionError(f"max_steps must be an integer of at least 1, not {max_steps!r}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise BadOptionError(
                f"unknown render_mode {render_mode!r}; known: {', '.join(self.metadata['render_modes'])}"
            )
        self.max_steps = max_steps
        self.render_mode = render_mode
        self._seed: int | None = None
        self._transcript: list[tuple[str | None, str]] = []

    def task_ids(self, split: str, limit: int | None = None) -> Sequence[str]:
        """The first `limit` task ids of `split` in their fixed order (all if None; an unlimited split needs a limit).

        Raises:
            BadOptionError: unknown split, no limit for an unlimited one, or a limit that is not a number from 0.
        """
        raise NotImplementedError

    def split_of(self, task_id: str) -> str:
        """The split that holds `task_id`; raises `BadOptionError` if none does."""
        for split in self.splits:
            if task_id in self.task_ids(split):
                return split
        raise BadOptionError(f"unknown task_id {task_id!r}: env.task_ids(split, limit) lists them")

    def data_hash(self, task_id: str) -> str:
        """What `info["data_hash"]` says of a task now. Here it is asked of a `reset`; a subclass may know it sooner.

        Raises:
            BadOptionError: unknown task.
        """
        return str(self.reset(options={"task_id": task_id})[1]["data_hash"])

    def require_trainable(self, split: str) -> None:
        """Raise a typed error, which says why, if `split` is for evaluation only. Here none is."""

    def draw_task(self, split: str) -> str:
        """A task of `split`, drawn by `self.np_random`."""
        ids = self.task_ids(split)
        return ids[int(self.np_random.integers(len(ids)))]

    def begin(self, seed: int | None) -> int:
        """Seed `self.np_random` if asked (or if it never was) and return the seed that `info` echoes."""
        if seed is None and self._seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if seed is not None:
            super().reset(seed=seed)
            self._seed = int(seed)  # Gymnasium takes True for a seed; snapshots do not
        assert self._seed is not None
        return self._seed

    def choose_task(self, options: dict[str, Any] | None) -> tuple[str, str]:
        """(split, task id) that `options` name; left open, it is `self.split` and a task drawn by `self.np_random`.

        Raises:
            BadOptionError: an unknown option, split or task, or a task of another split than the one named.
        """
        options = {} if options is None else options
        if not isinstance(options, dict):
            raise BadOptionError(f"reset options are a dict of task_id and split, not {type(options).__name__}")
        if unknown := sorted(map(str, options.keys() - {"task_id", "split"})):
            raise BadOptionError(f"unknown reset option {unknown[0]!r}; known: task_id, split")
        named = options.get("split")
        split = None if named is None else self._known_split(named)
        task_id = options.get("task_id")
        if task_id is None:
            split = split or self.split
            return split, self.draw_task(split)
        if not isinstance(task_id, str):
            raise BadOptionError(f"task_id must be a string, not {task_id!r}")
        home = self.split_of(task_id)
        if split not in (None, home):
            raise BadOptionError(f"task {task_id!r} is in split {home!r}, not in {split!r}")
        return home, task_id

    def random_action(self, info: dict[str, Any], rng: Random) -> str:
        """What an agent without an idea does: any admissible action, else a word. Depends on `info` and `rng` alone."""
        actions = info.get("admissible_actions")
        if actions:
            return str(actions[int(rng.random() * len(actions))])
        return "".join(rng.choices(ascii_lowercase, k=rng.randint(1, 11)))

    def _known_split(self, split: Any) -> str:
        if not isinstance(split, str) or split not in self.splits:
            raise BadOptionError(f"unknown split {split!r}; known: {', '.join(self.splits)}")
        return split

    def _known_limit(self, limit: Any) -> int | None:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise BadOptionError(f"a limit of tasks is an integer from 0, or None for all, not {limit!r}")
        return limit

    def reset_needed(self, started: bool) -> ResetNeededError:
        """The error for a `step` without a running episode."""
        return ResetNeededError(
            "the episode has ended: call reset" if started else "step before reset: call reset first"
        )

    def show(self, action: str | None, observation: str) -> None:
        """Keep one exchange for `render` (`action` None begins an episode) and print it in mode `human`."""
        if self.render_mode is None:
            return
        if action is None:
            self._transcript.clear()
        self._transcript.append((action, observation))
        if self.render_mode == "human":
            from aem_envs.render import ansi

            print(ansi(action, observation), flush=True)

    def render(self) -> str | None:
        """`ansi`: the last exchange; `html`: the episode as a self-contained page; `human`: printed as it happens."""
        if self.render_mode in (None, "human"):
            return None
        if not self._transcript:
            raise ResetNeededError("nothing to render: call reset first")
        from aem_envs import render

        if self.render_mode == "ansi":
            return render.ansi(*self._transcript[-1])
        return render.page(type(self).__name__, self._transcript)

    def get_state(self) -> bytes:
        """Snapshot of the running episode as UTF-8 JSON, never pickle."""
        raise gym.error.Error(f"{type(self).__name__} has no snapshots (see capabilities)")

    def set_state(self, state: bytes) -> None:
        """Return to a snapshot of `get_state`; on anything else raise `BadStateError` and change nothing."""
        raise gym.error.Error(f"{type(self).__name__} has no snapshots (see capabilities)")
