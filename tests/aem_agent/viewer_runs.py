"""Run folders for the viewer's tests, and what is in a page, read without a browser."""

import base64
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aem_agent.run_folder import RunFolder
from aem_agent.types import Episode, Response, Turn

NASTY = (
    "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'><!--<script>"
    "\u2028\x1b[2J\x1b]0;t\x07\u202egnp\ud800&amp;\"'@@SCRIPT@@]]>"
)
"""Ends a script, a comment and an attribute, and hides and reorders text."""


def evaluation(path: Path, episodes: Iterable[Episode], **config: Any) -> RunFolder:
    """A run folder with these episodes."""
    played = list(episodes)
    asked = {"env_id": "aem/Toy-v0", "split": "test", "model": "m", "tasks": len(played), "repeats": 1, "env": {}}
    folder = RunFolder.create(path, {**asked, **config})
    with folder.writer() as writer:
        for episode in played:
            writer.write(episode)
    return folder


def episode(task: str, repeat: int = 0, *, turns: int = 2, won: bool = False, **more: Any) -> Episode:
    """Lost by itself unless said otherwise; every turn says which it is."""
    played = tuple(
        Turn(
            f"You see {task}, turn {i}. Your task is to: reach the end.",
            Response(f"<think>thought {i}</think><action>act {i}</action>", (1, 2), (-0.1, -0.2), (0.25 * i, 0.75 * i)),
            f"act {i}",
            (5, 6, 7),
            reward=float(won and i == turns),
        )
        for i in range(1, turns + 1)
    )
    given = {
        "terminated": True,
        "score": float(won),
        "return_": float(won),
        "turns": played,
        "final_observation": "over",
    }
    return Episode("aem/Toy-v0", task, "walk", "test", repeat, 7, won=won, **{**given, **more})


def nasty_episode(text: str = NASTY) -> Episode:
    """The text wherever an episode has one."""
    turn = Turn(text, Response(f"<think>{text}</think>{text}", (1,), None, (1.0,)), text, (1,), False, text, False, 1.0,
                {"action_error": text, "training": {"alpha": text, "entropy": text}})  # fmt: skip
    return Episode(
        text, text, text, text, 0, 1, (turn, turn), text, False, True, text, None, data_hash=text, engine=text
    )


def unpacked(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(text, validate=True)))


def head_of(page: Path) -> dict[str, Any]:
    """The list of episodes in a page."""
    found = re.search(r'<script type="text/plain" id="head">([^<]*)</script>', page.read_text("utf-8"))
    assert found is not None
    data: dict[str, Any] = unpacked(found[1])
    return data


def contents_of(page: Path, run: int = 0) -> list[list[dict[str, Any]]]:
    """The chunks of a run in a page."""
    pattern = rf'<script type="text/plain" id="chunk-{run}-(\d+)">([^<]*)</script>'
    found = re.findall(pattern, page.read_text("utf-8"))
    assert [int(number) for number, _ in found] == list(range(len(found)))
    return [unpacked(text) for _, text in found]
