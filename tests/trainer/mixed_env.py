"""Corridors of three turns in which groups are rarely of one return, whatever is said: `test/Mixed-v0`."""

from typing import Any

from aem_envs.plugins import experts
from aem_envs.registration import register
from aem_envs.toy import ToyEnv

TURNS = 3


class MixedEnv(ToyEnv):
    """The seed decides how an episode ends: half are won, a quarter fail, a quarter are truncated."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, _, _, _, info = super().step(action)
        assert self._seed is not None
        over, won, cut = self._steps == TURNS, self._seed % 2 == 0, self._seed % 4 == 1
        self._running = not over
        ends = {"won": over and won, "score": float(over and won), "truncation_reason": None}
        if over and cut:
            ends["truncation_reason"] = "max_steps"
        return observation, float(over and won), over and not cut, over and cut, info | ends


register("test/Mixed-v0", "mixed_env:MixedEnv")
experts.add("test/Mixed-v0/expert", "aem_envs.toy:ToyExpert")
