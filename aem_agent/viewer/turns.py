"""What the page shows of an episode, as plain data. Every text passes `plain`: no control character gets into it."""

import re
from math import isfinite
from typing import Any

from aem_agent.types import Episode, Turn
from aem_envs.sanitize import cut, plain

MAX_TEXT = 100_000
"""Characters of one text that the page holds at most; the record keeps the rest."""

MAX_GOAL = 200
"""Characters of the line that says what is to be done."""

_THOUGHT = re.compile(r"<think>(.*?)(?:</think>|$)", re.DOTALL)
_GOAL = re.compile(r"(?:Your task is to|Instruction|Issue|Goal|Task):\s{0,9}(?:\[SEP\])?\s{0,9}([^\n]+)")
_OPENING = re.compile(r"(?:<action>|```[a-z]{0,12})\s*$")
_TRAINING = ("entropy", "advantage", "applied", "alpha")


def text(value: object, limit: int = MAX_TEXT) -> str:
    """A text as it may be shown."""
    return plain(cut(str(value), limit))


def number(value: Any) -> float | None:
    """A finite number in six digits; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(f"{value:.6g}") if isfinite(value) else None
    except OverflowError:  # JSON's integers have no bound
        return None


def goal(episode: Episode) -> str:
    """What the first observation says is to be done, where its wording is known: one line for the list."""
    found = _GOAL.search(episode.turns[0].observation[:4000]) if episode.turns else None
    return " ".join(found[1].partition("[SEP]")[0].split())[:MAX_GOAL] if found else ""


def thoughts(turn: Turn) -> str:
    """What a response says besides its action: the part in <think> tags, else what stands before the action."""
    said = turn.response.text
    if found := _THOUGHT.search(said):
        return found[1].strip()
    action = turn.action.strip()
    after = said[::-1].find(action[::-1]) if action else -1  # rfind takes the product of their lengths
    return _OPENING.sub("", said[: len(said) - after - len(action)]).strip() if after >= 0 else ""


def training(turn: Turn) -> dict[str, float]:
    """What a training run recorded of a turn; a mean entropy also where an evaluation's engine gave token entropies."""
    given = turn.info.get("training")
    data = given if isinstance(given, dict) else {}
    found = {name: value for name in _TRAINING if (value := number(data.get(name))) is not None}
    tokens = turn.response.entropies
    if "entropy" not in found and tokens and (mean := number(sum(tokens) / len(tokens))) is not None:
        found["entropy"] = mean
    return found


def turn_data(turn: Turn) -> dict[str, Any]:
    """One turn; what is at its default is left out."""
    said = turn.response
    thought = thoughts(turn)
    data: dict[str, Any] = {
        "observation": text(turn.observation),
        "action": text(turn.action),
        "thoughts": text(thought),
        "response": "" if said.text.strip() in (turn.action.strip(), thought) else text(said.text),
        "format": "" if turn.format_valid else text(turn.format_error or "no action found"),
        "refused": "" if turn.action_valid else text(turn.info.get("action_error") or "the environment refused it"),
        "reward": number(turn.reward) or 0,
        "cut": "" if said.finish_reason == "stop" else said.finish_reason,
        "prompt": len(turn.prompt_token_ids) or (said.usage[0] if said.usage else 0),
        "tokens": len(said.token_ids) or (said.usage[1] if said.usage else 0),
        "dropped": turn.dropped_turns,
        **training(turn),
    }
    return {name: value for name, value in data.items() if value not in ("", 0) or name in ("entropy", "advantage")}


def episode_data(episode: Episode) -> dict[str, Any]:
    """A whole episode, but for what the list of episodes says of it."""
    data: dict[str, Any] = {
        "turns": [turn_data(turn) for turn in episode.turns],
        "final": text(episode.final_observation),
        "error": text(episode.error or ""),
        "facts": {
            "environment": text(episode.env_id, 300),
            "split": text(episode.split, 300),
            "seed": str(episode.seed),
            "seconds": f"{episode.seconds:.2f}",
            "retries": episode.retries,
            "data": text(episode.data_hash, 300),
            "engine": text(episode.engine, 300),
        },
    }
    return {name: value for name, value in data.items() if value not in ("", [])} | {"turns": data["turns"]}
