"""Who started this process: torchrun or `trainer.launch`, as one of several, or anybody else, alone.

It stands in the environment (RANK, WORLD_SIZE, MASTER_ADDR, …). Shells, images and other jobs leave such variables
behind, so what is set by halves is refused rather than guessed at.
"""

import os
from dataclasses import dataclass

from trainer.config_rules import ConfigError

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Started:
    """This process among `size` that were started together, `local_size` of them on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = ""
    """HOST:PORT where they meet."""


def started() -> Started:
    """As the environment says; alone where WORLD_SIZE is 1 or not there, whatever else is.

    `trainer.world.opened` takes the variables away, so ask before.

    Raises:
        ConfigError: several processes are said to be there, and not where they meet or which one this is.
    """
    size = _number("WORLD_SIZE", "1")
    if size == 1:
        return Started()
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE={size} says that this is one of several processes, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set: unset WORLD_SIZE, or start them by torchrun"
        )
    rank = _number("RANK")
    if not 0 <= rank < size:
        raise ConfigError(f"RANK={rank} is none of {size} processes (WORLD_SIZE): unset both, or use torchrun")
    address = f"{os.environ['MASTER_ADDR']}:{_number('MASTER_PORT')}"
    return Started(rank, size, _number("LOCAL_RANK", "0"), _number("LOCAL_WORLD_SIZE", "1"), address)


def to_launch(processes: int, setting: str | None = "scale.processes") -> bool:
    """Whether this process is to start others: not where it was started as one of several itself.

    setting: what asked for so many; None where that may differ from how many were started.

    Raises:
        ConfigError: it asked for another number than were started, or as `started`.
    """
    there = started().size
    if there > 1 and processes > 1 and setting and processes != there:
        raise ConfigError(
            f"{setting}={processes}, but {there} processes were started (WORLD_SIZE): leave {setting} at 1 or set it "
            f"to {there}; if nothing else was started, unset WORLD_SIZE"
        )
    return there == 1 and processes > 1


def _number(name: str, default: str = "") -> int:
    value = os.environ.get(name) or default
    if not value.isdecimal() or (name == "WORLD_SIZE" and int(value) == 0):
        raise ConfigError(f"{name}={value} in the environment is no number from a launcher: unset it, or use torchrun")
    return int(value)
