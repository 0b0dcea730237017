"""Episodes as training data for behaviour cloning.

`sft` writes one JSON line per episode, prompts left to whoever trains:

    {"env_id", "task_id", "task_type", "split", "repeat", "data_hash", "won", "return",
     "initial_observation": what the episode began with,
     "steps": [{"observation": seen before acting, "action": what was sent on, "response": what was said}, …]}

`messages` writes the chat form that most fine-tuning tools read: {"task_id", "messages": [{"role", "content"}, …]}.

`predictions` (of SWE-bench) is written beside the records of every run that has patches: {"instance_id",
"model_name_or_path", "model_patch"}, as `swebench eval` takes it.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aem_agent.run_folder import run_around, write_atomically
from aem_agent.summary import last_details
from aem_agent.types import AgentError, Episode, Turn


class ExportError(AgentError):
    """Nothing to export, an unknown format, or a file that must not be written to."""


def to_sft(episode: Episode) -> dict[str, Any]:
    """An episode in the `sft` form."""
    return {
        "env_id": episode.env_id,
        "task_id": episode.task_id,
        "task_type": episode.task_type,
        "split": episode.split,
        "repeat": episode.repeat,
        "data_hash": episode.data_hash,
        "won": episode.won,
        "return": episode.return_,
        "initial_observation": episode.turns[0].observation,
        "steps": [
            {"observation": t.observation, "action": t.action, "response": t.response.text} for t in episode.turns
        ],
    }


def to_messages(episode: Episode) -> dict[str, Any]:
    """An episode as a chat: observations are the user's, responses the assistant's."""
    chat = [
        message
        for turn in episode.turns
        for message in (
            {"role": "user", "content": turn.observation},
            {"role": "assistant", "content": _in_its_own_words(turn)},
        )
    ]
    return {"task_id": episode.task_id, "messages": chat}


def _in_its_own_words(turn: Turn) -> str:
    """The response; the action where the response says it in words that go with compact observations ("open 1")."""
    return turn.response.text if turn.action in turn.response.text else turn.action


FORMATS: dict[str, Callable[[Episode], dict[str, Any]]] = {"sft": to_sft, "messages": to_messages}


def export(
    episodes: Iterable[Episode], out: Path, *, format: str = "sft", only_won: bool = True, force: bool = False
) -> tuple[int, int]:
    """Write `episodes` to `out` (whole or not at all; a pipe is written to); returns (episodes, steps) written.

    Errored and empty episodes are left out, and those not won unless `only_won` is false. Lines are in the order of
    (task id, repeat): the same episodes give the same file.

    Raises:
        ExportError: an unknown format, no episode is left, `out` lies in a run folder, or it exists already (unless
            `force`).
        RecordWriteError: the file cannot be written.
    """
    if format not in FORMATS:
        raise ExportError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    _require_free(out, force)
    kept = [e for e in episodes if e.completed and e.turns and (e.won or not only_won)]
    if not kept:
        raise ExportError("no won episode to export" + ("; --all takes the others too" if only_won else ""))
    kept.sort(key=lambda e: (e.task_id, e.repeat))
    lines = [json.dumps(FORMATS[format](episode)) + "\n" for episode in kept]
    write_atomically(out, "".join(lines).encode("ascii"), follow=True)
    return len(kept), sum(len(e.turns) for e in kept)


def predictions(episodes: Iterable[Episode], model: str) -> list[dict[str, str]]:
    """The patches that `episodes` ended with, one per task: that of its first completed attempt, by task id. It is
    empty where the attempt ended without one, as with a sandbox that died; no list at all where none left a patch.
    """
    found: dict[str, str | None] = {}
    for episode in sorted(episodes, key=lambda e: (e.task_id, e.repeat)):
        if episode.completed and episode.turns:
            patch = last_details(episode).get("model_patch")
            found.setdefault(episode.task_id, None if patch is None else str(patch))
    if not any(patch is not None for patch in found.values()):
        return []
    return [
        {"instance_id": task, "model_name_or_path": model, "model_patch": patch or ""} for task, patch in found.items()
    ]


def _require_free(out: Path, force: bool) -> None:
    if run := run_around(out):
        raise ExportError(f"{out} lies in the run folder {run}, whose files are its records: choose another --out")
    if out.is_file() and not force:
        raise ExportError(f"{out} exists: --force replaces it, or choose another --out")
