"""`ToolEnv`: an environment with one tool, and what becomes of it when that breaks."""

import gc
import inspect
import weakref
from typing import Any

import pytest

from aem_agent.adapters import tool_env
from aem_agent.adapters.tool_env import BROKEN, OVER, ToolEnv
from aem_envs.core import BadOptionError, InfrastructureError
from aem_envs.toy import ToyEnv

TASK = "rooms3-start2-red"
DEAD = InfrastructureError("the browser died")


class Fragile(ToyEnv):
    """Raises, or takes as what a step returns, what `troubles` holds for its next calls; None lets one pass."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.troubles: list[Any] = []
        self.calls = 0
        self.closed = 0

    def reset(self, **asked: Any) -> tuple[str, dict[str, Any]]:
        self._trouble()
        return super().reset(**asked)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return self._trouble() or super().step(action)

    def close(self) -> None:
        self.closed += 1

    def _trouble(self) -> Any:
        self.calls += 1
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, BaseException):
            raise trouble
        return trouble


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Fragile:
    made = Fragile()
    monkeypatch.setattr(tool_env, "make_env", lambda env_id: made)
    return made


def won(tool: ToolEnv) -> ToolEnv:
    """One that has just won an episode, so that something could be left over from it."""
    tool.reset(task_id=TASK)
    tool.act("go east")
    tool.act("open red chest")
    assert tool.get_reward() == 1 and tool.info["won"]
    return tool


def test_the_tool_is_one_environment() -> None:
    tool = ToolEnv("aem/Toy-v0", max_steps=3)
    assert tool.act("look") == OVER and tool.get_reward() is None
    assert "open the red chest" in tool.reset(task_id=TASK, prompt=[], seed=1)
    assert "room 3 of 3" in tool.act("go east") and tool.get_reward() == 0
    assert tool.act("open red chest") == f"You open the red chest.\n{OVER}"
    assert tool.get_reward() == 1.0 and tool.info["won"] and tool.act("go west") == OVER
    tool.reset(task_id=TASK)
    assert tool.get_reward() == 0
    tool._info["truncation_reason"] = "infra:gone"
    assert tool.get_reward() is None


def test_a_reset_is_tried_again(env: Fragile) -> None:
    env.troubles = [DEAD]
    tool = won(ToolEnv("any"))
    assert env.calls == 4
    env.troubles = [DEAD]
    assert "open the red chest" in tool.reset(task_id=TASK) and tool.get_reward() == 0 and not tool.info["won"]


def test_an_episode_that_cannot_begin_is_over_and_has_no_reward(env: Fragile, caplog: pytest.LogCaptureFixture) -> None:
    tool = won(ToolEnv("any"))
    env.troubles, env.calls = [DEAD, DEAD], 0
    assert tool.reset(task_id=TASK) == f"{BROKEN}\n{OVER}"
    assert env.calls == 2 and tool.act("go east") == OVER and env.calls == 2
    assert tool.get_reward() is None
    reason = "infra:InfrastructureError: the browser died"
    assert tool.info == {"task_id": TASK, "won": False, "score": 0.0, "steps": 0, "truncation_reason": reason}
    assert "the browser died" in caplog.text
    won(tool)  # the next one is as any other


def test_a_task_that_does_not_exist_is_told_and_leaves_nothing_of_the_last_episode(env: Fragile) -> None:
    tool = won(ToolEnv("any"))
    env.calls = 0
    with pytest.raises(BadOptionError, match="nope"):
        tool.reset(task_id="nope")
    assert env.calls == 1 and tool.get_reward() is None and tool.info == {} and tool.act("go east") == OVER


def test_errors_of_other_kinds_end_the_training_only_at_the_first_reset(env: Fragile) -> None:
    """At first a mistake in what was asked for, which every episode would repeat; later something that went away."""
    tool = ToolEnv("any")
    env.troubles = [OSError("no such display")]
    with pytest.raises(OSError, match="no such display"):
        tool.reset()
    won(tool)
    env.troubles = [OSError("no such display")] * 2
    assert tool.reset().endswith(OVER) and tool.get_reward() is None


@pytest.mark.parametrize(
    "trouble", [RuntimeError("engine gone"), ("text", float("nan"), False, False, {})], ids=["raises", "no number"]
)
def test_a_step_that_fails_breaks_the_episode(env: Fragile, trouble: Any) -> None:
    tool = ToolEnv("any")
    tool.reset(task_id=TASK)
    env.troubles = [None, trouble]
    tool.act("go east")
    with pytest.raises((RuntimeError, InfrastructureError)):
        tool.act("open red chest")
    assert tool.get_reward() is None and tool.act("open red chest") == OVER
    assert tool.info["task_id"] == TASK and tool.info["truncation_reason"].startswith("infra:")
    won(tool)


def test_it_closes_with_the_last_reference_and_has_no_tool_for_it(env: Fragile) -> None:
    tool = ToolEnv("any")
    tools = {name for name, _ in inspect.getmembers(ToolEnv, inspect.isfunction) if not name.startswith("_")}
    assert tools == {"reset", "act", "get_reward"}
    gone = weakref.ref(tool)
    assert env.closed == 0 and tool._closing.atexit
    del tool
    gc.collect()
    assert gone() is None and env.closed == 1
