"""Our environments behind OpenEnv: `uvicorn.run(app("aem/ALFWorld-v0"))` serves one, a session to each client.

    client.reset(task_id=…)  or  reset(split=…, index=…)  or  reset(seed=…)
    client.step({"action": "go to desk 1"})      →  observation {"text": …, "won": …, …}, reward, done

`done` is terminated or truncated, which the observation tells apart. Rewards are native; one that infrastructure broke
is None, and the observation says why. Needs the package `openenv`, written for 0.10.
"""

from functools import partial
from typing import Any
from uuid import uuid4

from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app

from aem_envs.core import BadOptionError
from aem_envs.registration import make_env


class TaskIndexError(BadOptionError, IndexError):
    """A split has no task of that number."""


class TextAction(Action):
    """What the agent does."""

    action: str
    """In the environment's words; one that it does not know is told so, and never ends the episode."""


class TextObservation(Observation):
    """What is seen, and what `info` says besides; `done` and `reward` are OpenEnv's own fields."""

    text: str
    task_id: str
    terminated: bool = False
    truncated: bool = False
    truncation_reason: str | None = None
    won: bool = False
    score: float = 0.0
    steps: int = 0
    admissible_actions: list[str] | None = None
    action_valid: bool | None = None
    action_error: str | None = None


_TOLD = tuple(name for name in TextObservation.__annotations__ if name not in ("text", "terminated", "truncated"))
"""Fields that are entries of `info` under the same name."""


class TextState(State):
    """The running episode; `episode_id` and `step_count` are OpenEnv's own fields."""

    env_id: str
    task_id: str | None = None
    split: str | None = None
    return_: float = 0.0


class OpenEnvEnvironment(Environment[TextAction, TextObservation, TextState]):
    """One `TextEnv` as OpenEnv's server takes it. Lists its tasks (`TaskProvider`); raises what
    `make_env` raises.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, env_id: str, **settings: Any) -> None:
        super().__init__()
        self._env = make_env(env_id, **settings)
        self._state = TextState(env_id=env_id.rpartition(":")[2])

    def reset(self, seed: int | None = None, episode_id: str | None = None, **asked: Any) -> TextObservation:
        """Begin a task: `task_id`, or number `index` (from 0) of `split`, or one drawn from it.

        Raises:
            BadOptionError: there is none such, or another argument.
        """
        options = {name: value for name, value in asked.items() if value is not None}
        if "index" in options:
            options["task_id"] = self.get_task(options.get("split", self._env.split), options.pop("index"))["id"]
        text, info = self._env.reset(seed=seed, options=options)
        task = {name: info[name] for name in ("task_id", "split")}
        self._state = TextState(env_id=self._state.env_id, episode_id=episode_id or str(uuid4()), **task)
        return TextObservation(text=text, **{name: info[name] for name in _TOLD})

    def step(self, action: TextAction, timeout_s: float | None = None, **_: Any) -> TextObservation:
        """Act once; `ResetNeededError` before `reset` and after the end. Limits of time are the environment's own."""
        text, reward, terminated, truncated, info = self._env.step(action.action)
        broken = str(info["truncation_reason"] or "").startswith("infra:")
        self._state.step_count = info["steps"]
        self._state.return_ += float(reward)
        return TextObservation(
            text=text,
            reward=None if broken else reward,
            done=terminated or truncated,
            terminated=terminated,
            truncated=truncated,
            **{name: info[name] for name in _TOLD},
        )

    @property
    def state(self) -> TextState:
        return self._state

    def close(self) -> None:
        """End the episode and release what it stands on."""
        self._env.close()

    def list_splits(self) -> list[str]:
        """With the four below, OpenEnv's `TaskProvider`."""
        return list(self._env.splits)

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """All of them; `BadOptionError` for an unknown split and one without end."""
        return self.get_task_range(split)

    def num_tasks(self, split: str) -> int:
        return len(self._env.task_ids(split))

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """Number `index`, from 0; raises `TaskIndexError` where there is none."""
        found = self.get_task_range(split, index, index + 1) if index >= 0 else []
        if not found:
            raise TaskIndexError(f"split {split!r} has no task number {index}: num_tasks says how many there are")
        return found[0]

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[dict[str, Any]]:
        """Of Python's slice; without end only where `stop` is given."""
        limit = stop if stop is not None and stop >= 0 and (start or 0) >= 0 else None
        ids = list(self._env.task_ids(split, limit))
        places = range(len(ids))[slice(start, stop)]
        return [{"id": ids[place], "index": place} for place in places]


def app(env_id: str, *, max_sessions: int = 64, **settings: Any) -> Any:
    """A FastAPI application that serves `env_id`: give it to uvicorn. One environment is made at once, to fail early.

    Args:
        max_sessions: clients at once, each with an environment of its own.
        settings: of the environment.
    """
    OpenEnvEnvironment(env_id, **settings).close()
    return create_fastapi_app(
        partial(OpenEnvEnvironment, env_id, **settings),
        TextAction,
        TextObservation,
        max_concurrent_envs=max_sessions,
        env_name=env_id.rpartition(":")[2].rpartition("/")[2],
        state_cls=TextState,
    )
