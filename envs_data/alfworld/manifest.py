"""The splits of the embedded games are fixed: their hashes stand here, and a test holds the generator to them."""

import hashlib

from envs_data.alfworld.generator import VERSION, generate
from envs_data.alfworld.problem import Problem
from envs_data.alfworld.rooms import ROOMS, Size, layout, layout_numbers
from envs_data.alfworld.splits import SPLITS, VALID_GAMES, held_out
from envs_data.alfworld.vocabulary import OBJECTS, RECEPTACLES

TRAIN_SAMPLE = 504
"""How many games stand for the unlimited train split."""

MANIFESTS: dict[Size, str] = {
    "small": "920afa9838a07ce99dce06091e9fe535f20d7517b3810b0eeebd0289585d6b10",
    "medium": "2e0d634bcd490390d22ef61a4ba197d443a2b16f22e634cfca54abf1d9814b4a",
    "official": "abc6e15aaec78a98f97e6fc6f6ce2038f28ae46b36afe9da9ff0cad78bfc1e1e",
}
"""Room size → SHA-256 of `manifest_lines`. A change here is a new set of games: raise `generator.VERSION` with it."""


def problem_hash(problem: Problem) -> str:
    """SHA-256 (16 hex digits) of everything in a game but its name and dialect."""
    content = repr((problem.objects, problem.facts, problem.goal, problem.task))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def manifest_lines(size: Size) -> list[str]:
    """All that defines the splits of one room size: layouts, held-out pairs, and every valid game's hash."""
    lines = [f"version {VERSION}"]
    for room in ROOMS:
        for unseen, side in ((False, "train"), (True, "unseen")):
            for number in layout_numbers(size, unseen=unseen):
                lines.append(f"layout {side} {' '.join(layout(size, room, number).receptacles)}")
    ends = (*RECEPTACLES, "DeskLamp")
    lines += [f"unseen pair {kind} {end}" for kind in OBJECTS for end in ends if held_out(kind, end)]
    for split in SPLITS:
        games = TRAIN_SAMPLE if split == "train" else VALID_GAMES
        lines += [f"{split} {n} {problem_hash(generate(split, n, size=size))}" for n in range(games)]
    return lines


def manifest_hash(size: Size) -> str:
    """SHA-256 of `manifest_lines`; takes about a second."""
    return hashlib.sha256("\n".join(manifest_lines(size)).encode()).hexdigest()
