"""Our environments as objects with one tool: what TRL's `environment_factory` and other tool-calling loops take.

`GRPOTrainer(…, environment_factory=lambda: ToolEnv("aem/ALFWorld-v0"))`, with a chat model that calls tools. TRL writes
the first observation behind the prompt, calls `act` for each tool call, and takes the reward from `get_reward`. It
samples itself, by transformers or vLLM, continues the sampled ids, and masks the tool's answers. No torch here.

TRL makes environments and never closes one: each closes itself when nobody holds its `ToolEnv` any more, or when the
process ends. There is no `close`, since every public method becomes a tool.
"""

import logging
import weakref
from typing import Any

from aem_agent.episode_recorder import error_text
from aem_agent.pools.base import check_text, checked_step
from aem_envs.core import BadOptionError, InfrastructureError
from aem_envs.registration import make_env

OVER = "The episode is over."
BROKEN = "The environment does not answer."
"""What is seen first of an episode that could not begin; `OVER` follows."""
TRIES = 2
"""Resets that may fail of infrastructure before the episode is lost."""

_log = logging.getLogger(__name__)


class ToolEnv:
    """One environment; TRL makes one per rollout and resets it for each.

    Columns of the dataset: `task_id`, or `seed`, by which a task of the environment's split is drawn; without either
    each reset draws another, also within a group. Others are ignored.

    An episode that infrastructure broke has no reward, `info["truncation_reason"]` says `infra:…`, and a warning is
    logged. It does not end the training.

    Args:
        env_id: any `aem/…` environment, or module:EnvId of yours.
        settings: of the environment, such as `split` or `max_steps`.

    Raises what `make_env` raises.
    """

    def __init__(self, env_id: str, **settings: Any) -> None:
        self._env = make_env(env_id, **settings)
        self._closing = weakref.finalize(self, self._env.close)
        self._return: float | None = None
        self._over = True
        self._info: dict[str, Any] = {}
        self._worked = False
        """A reset has succeeded once, so what a later one raises is no mistake in its settings."""

    def reset(self, task_id: str | None = None, seed: int | None = None, **_: Any) -> str:
        """Begin a task; returns what is seen first.

        What infrastructure breaks is tried once more; if it stays broken, that is told, and the episode is over.

        Raises:
            BadOptionError: no such task.

        Besides, what the environment raises at the very first reset, unless it is an `InfrastructureError`.
        """
        self._return, self._over, self._info = None, True, {}
        for left in reversed(range(TRIES)):
            try:
                observation, info = self._env.reset(seed=seed, options={"task_id": task_id} if task_id else None)
                check_text(observation, info)
            except BadOptionError:
                raise
            except Exception as error:
                if not (self._worked or isinstance(error, InfrastructureError)):
                    raise
                if not left:
                    self._broke(error, {"task_id": task_id, "won": False, "score": 0.0, "steps": 0})
            else:
                self._return, self._over, self._info, self._worked = 0.0, False, info, True
                return observation
        return f"{BROKEN}\n{OVER}"

    def act(self, action: str) -> str:
        """Act once in the environment and see what comes of it.

        Args:
            action: One action in the environment's words, such as "go to desk 1".

        Returns:
            What is seen then.
        """
        if self._over:
            return OVER
        try:
            observation, reward, terminated, truncated, self._info = checked_step(*self._env.step(action))
        except Exception as error:  # TRL tells the model of it and goes on
            self._broke(error, self._info)
            raise
        self._return = (self._return or 0.0) + reward
        self._over = terminated or truncated
        return f"{observation}\n{OVER}" if self._over else observation

    def get_reward(self) -> float | None:
        """The native return; None where infrastructure broke, which is no failure of the model, and before `reset`."""
        broken = str(self._info.get("truncation_reason") or "").startswith("infra:")
        return None if broken else self._return

    @property
    def info(self) -> dict[str, Any]:
        """The newest `info` of the environment, for reward functions: TRL gives them the `environments`.

        Of an episode that could not begin: `task_id`, `won`, `score`, `steps` and `truncation_reason` only.
        """
        return self._info

    def _broke(self, error: Exception, known: dict[str, Any]) -> None:
        """The episode is over, neither won nor lost."""
        self._over = True
        self._info = {**known, "truncation_reason": f"infra:{error_text(error)}"}
        _log.warning("an episode has no reward, as its environment broke: %s", error_text(error))
