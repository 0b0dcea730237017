"""What `config.json` says of an evaluation, which may be anybody's: its settings are of the types they are given in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aem_agent.records import RunFolderError
from aem_agent.run_folder import RunFolder

KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("env_id", "model", "split"), str),
    **dict.fromkeys(("engine", "prompt", "base_url", "tokenizer"), str | None),
    **dict.fromkeys(("repeats", "seed"), int),
    **dict.fromkeys(("tasks", "max_steps", "max_new_tokens"), int | None),
    "env": dict,
    "temperature": int | float,
    "prices": list | None,
}
"""Types that the fields of `aem_agent.evaluate.EvalConfig` have in a record."""


def open_evaluation(path: Path) -> RunFolder:
    """The run folder of an evaluation, to read it.

    Raises:
        RunFolderError: as `RunFolder.open`; a recorded setting is of a type or a size that it cannot be given in.
    """
    folder = RunFolder.open(path)
    for name, kind in KINDS.items():
        value = folder.config.get(name)
        if name in folder.config and (not isinstance(value, kind) or isinstance(value, bool)):
            raise RunFolderError(f"{path} is no evaluation's run: its {name} is of type {type(value).__name__}")
        if isinstance(value, int) and value.bit_length() > 63:
            raise RunFolderError(f"{path} is no evaluation's run: its {name} has more than 63 bits")
    prices = folder.config.get("prices") or (0, 0)
    if len(prices) != 2 or not all(isinstance(price, int | float) and abs(price) < 1e18 for price in prices):
        raise RunFolderError(f"{path} is no evaluation's run: its prices are not two numbers")
    return folder


def missing(config: Mapping[str, Any], recorded: int) -> int:
    """Episodes that a recorded configuration planned and nobody has played, if `recorded` have been."""
    tasks, repeats = config.get("tasks"), config.get("repeats")
    if not (isinstance(tasks, int) and isinstance(repeats, int)):
        return 0
    return min(max(0, tasks * repeats - recorded), 2**53)
