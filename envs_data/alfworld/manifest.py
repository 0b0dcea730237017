"""The splits of the embedded games are fixed: their hashes stand here, and a test holds the generator to them."""

import hashlib

from envs_data.alfworld.generator import VERSION, generate
from envs_data.alfworld.problem import Problem
from envs_data.alfworld.rooms import ROOMS, TRAIN_LAYOUTS, UNSEEN_LAYOUTS, Size, layout
from envs_data.alfworld.splits import SPLITS, VALID_GAMES, held_out
from envs_data.alfworld.vocabulary import OBJECTS, RECEPTACLES

TRAIN_SAMPLE = 504
"""How many games stand for the unlimited train split."""

MANIFESTS: dict[Size, str] = {
    "small": "920afa9838a07ce99dce06091e9fe535f20d7517b3810b0eeebd0289585d6b10",
    "medium": "005d8f7b8c2a0b4dfbb3bd15dabbe8c3b631af33faa8322f0b7c2e9dffd932be",
    "official": "2e3b4f7f27545ee7d13a873c2d15202c54eef79d4aedb90c36a56b81a6915d68",
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
        for number in range(TRAIN_LAYOUTS + UNSEEN_LAYOUTS):
            side = "train" if number < TRAIN_LAYOUTS else "unseen"
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
