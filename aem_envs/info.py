"""What `info` holds: the same keys in every environment, after `reset` and after `step`."""

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict


class Seconds(Mapping[str, float]):
    """Seconds by phase. Any two are equal, whatever they hold: how long it took is no part of what happened."""

    __slots__ = ("_spent",)

    def __init__(self, **spent: float) -> None:
        self._spent = spent

    def __getitem__(self, phase: str) -> float:
        return self._spent[phase]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spent)

    def __len__(self) -> int:
        return len(self._spent)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seconds)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Seconds({', '.join(f'{phase}={spent:.3f}' for phase, spent in self._spent.items())})"


NO_TIME = Seconds()
"""Of environments that answer at once."""


class Info(TypedDict):
    """The keys of `info`, always all present, for `reset` and for `step`."""

    task_id: str
    """Which task; `reset(options={"task_id": …})` starts it again."""
    split: str
    task_type: str
    seed: int
    """The seed of the last `reset` that was given one; one that the environment drew itself if none ever was."""
    won: bool
    score: float
    """Progress or quality in [0, 1]; equals the native return where the environment has no finer one."""
    admissible_actions: list[str] | None
    """Every action that would change or show something now; None where the set is not finite. Where part of an action
    is free text, its form stands for all: `search[<query>]`, which is accepted as it is, too."""
    action_valid: bool | None
    """The environment accepted the last action; None after `reset`."""
    action_error: str | None
    """Why it did not."""
    parsed_action: str | None
    """The last action as it was understood."""
    raw_obs: str
    """The engine's own text, before any wrapping."""
    anchor: str
    """Hash of what an agent can know of the state: equal anchors are equal decision points (GiGPO)."""
    data_hash: str
    """Hash of the task data (game file, catalogue, …)."""
    engine: str
    """Which back end ran, with its dialect or version."""
    steps: int
    """Actions taken in this episode."""
    truncation_reason: str | None
    """`max_steps`, `time_limit`, `infra:…`; None unless truncated."""
    details: dict[str, Any]
    """What only this environment tells, plain data, the same for equal episodes; its documentation names the keys."""
    seconds: Seconds
    """Where the time of this call went, by phase."""


INFO_KEYS = frozenset(Info.__annotations__)
