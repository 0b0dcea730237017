"""How the model of a run is spoken to."""

from typing import Any

import pytest

from aem_agent.types import Episode, Response, Turn
from trainer.agent import Agent


class Prompter:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def prompt(self, observation: str, info: dict[str, Any]) -> tuple[tuple[int, ...], int]:
        self.asked.append((observation, info))
        return (len(self.asked),), 0

    def said(self, observation: str, response: Response, action: str) -> None:
        pass


def test_the_prompt_after_an_episode_is_given_what_was_kept_of_its_info(monkeypatch: pytest.MonkeyPatch) -> None:
    prompter = Prompter()
    monkeypatch.setattr(Agent, "prompter", lambda self: prompter)
    kept = [{"score": 0.0, "action_error": "no"}, {"score": 0.5, "action_error": None}]
    turns = tuple(Turn(f"seen {i}", Response("go"), "go", info=info) for i, info in enumerate(kept))
    episode = Episode("env", "task", "type", "train", 0, 0, turns, final_observation="the end")
    assert Agent.next_prompt(object.__new__(Agent), episode) == (3,)
    assert prompter.asked == [("seen 0", {}), ("seen 1", kept[0]), ("the end", kept[1])]
