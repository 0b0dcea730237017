"""Longer responses: demonstrations that say a varied thought before each action, which earns nothing and hurts nothing.

> maybe it is best to open next : open drawer 1
"""

import hashlib
from dataclasses import dataclass

from aem_agent.env_texts import EnvText
from aem_agent.parsers import LineParser, Parsed
from aem_agent.prompts import PlainFullSpec

OPENINGS = ("i think", "maybe", "so", "now", "well", "perhaps", "hm", "surely")
GOALS = ("it is best to", "let me", "i should", "one could", "better", "try to")
ENDS = ("", " next", " first", " here", " at once")
MARK = " : "


@dataclass(frozen=True, slots=True)
class ThoughtfulSpec(PlainFullSpec):
    """`plain-full` whose answers begin with a thought about their verb.

    Which one hangs on what was seen and what is said, by a hash that nobody can learn: varied, and the same again.
    """

    name = "thoughtful"
    parser = "thoughts:ThoughtParser"

    def say(self, texts: EnvText, action: str, observation: str) -> str:
        said = PlainFullSpec.say(self, texts, action, observation)
        dice = int.from_bytes(hashlib.sha256(f"{observation}\n{action}".encode()).digest()[:8], "big")
        words = []
        for choices in (OPENINGS, GOALS, ENDS):
            dice, place = divmod(dice, len(choices))
            words.append(choices[place])
        opening, goal, end = words
        return f"{opening} {goal} {said.partition(' ')[0]}{end}{MARK}{said}"

    def mean(self, texts: EnvText, said: str, observation: str) -> str:
        return PlainFullSpec.mean(self, texts, said.rpartition(MARK)[2] if MARK in said else said, observation)


@dataclass(frozen=True, slots=True)
class ThoughtParser(LineParser):
    """What follows the last mark of the first line; a line without one is ill-formed, though it is sent."""

    name = "thought"

    def __call__(self, text: str) -> Parsed:
        found = LineParser.__call__(self, text)
        if found.reason is not None:
            return found
        before, mark, action = found.action.rpartition(MARK.strip())
        return Parsed(action.strip()) if mark and before else Parsed(found.action, "missing_think")
