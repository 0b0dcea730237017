"""Seeds: one stream per (run seed, task, repeat) and, for sampling, per turn. Stable over processes, platforms and
versions.
"""

from hashlib import blake2b

SEED_BITS = 53
"""Seeds are below 2**53, so that every JSON reader keeps them exact."""


def episode_seed(run_seed: int, task_id: str, repeat: int) -> int:
    """The seed of one attempt at one task; `task_id` may hold any characters, lone surrogates too."""
    return _hash(f"{run_seed}\0{repeat}\0{task_id}")


def turn_seed(seed: int, turn: int) -> int:
    """The seed of the response of turn `turn` (from 0) in the episode seeded `seed`."""
    return _hash(f"{seed}\0{turn}")


def _hash(text: str) -> int:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - SEED_BITS)
