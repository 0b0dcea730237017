"""Corridors whose ends a test decides: `staged_env:test/Staged-v0`."""

import threading
from collections.abc import Callable
from typing import Any

from aem_envs.core import Capabilities, InfrastructureError
from aem_envs.plugins import experts
from aem_envs.registration import register
from aem_envs.toy import ToyEnv

Return = Callable[[str, int], float]


def alternating(task_id: str, seed: int) -> float:
    """Tasks of an even number of letters are won whatever happens, the others by half of the seeds."""
    return 1.0 if len(task_id) % 2 == 0 else float(seed % 2)


def broken(task_id: str, seed: int) -> float:
    raise InfrastructureError("as told")


RETURNS: dict[str, Return] = {
    "alternating": alternating,
    "always": lambda task_id, seed: 1.0,
    "partly": lambda task_id, seed: 0.5 * (seed % 2),
    "broken": broken,
}


class StagedEnv(ToyEnv):
    """Every episode ends with its first step. `returns` names one of `RETURNS`."""

    def __init__(self, *, returns: str = "alternating", **options: Any) -> None:
        super().__init__(**options)
        self._returns = RETURNS[returns]

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, _, _, _, info = super().step(action)
        assert self._task is not None and self._seed is not None
        reward = self._returns(self._task.task_id, self._seed)
        self._running = False
        return observation, reward, True, False, info | {"won": reward == 1, "score": reward, "truncation_reason": None}


class WaitingEnv(ToyEnv):
    """Each step of an episode first waits for `before_step(number of the step)`, in a thread."""

    capabilities = Capabilities(snapshot=True, deepcopy=True, admissible_actions=True, blocking=True)
    before_step: Callable[[int], None] = staticmethod(lambda number: None)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        type(self).before_step(self._steps)
        return super().step(action)


def at_most(event: threading.Event, seconds: float = 30.0) -> None:
    """Wait for `event`; a test that waits in vain fails instead of hanging."""
    assert event.wait(seconds), "what the test waits for did not happen"


for name in ("Staged", "Waiting"):
    register(f"test/{name}-v0", f"staged_env:{name}Env")
    experts.add(f"test/{name}-v0/expert", "aem_envs.toy:ToyExpert")
