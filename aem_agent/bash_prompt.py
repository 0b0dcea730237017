"""Prompt and parser for agents that work in a shell: thought in free text, then one fenced block with the action.

Let me look at the function first.
```bash
grep -n "def first" src/package/module.py
```
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aem_agent.env_texts import AnyText, EnvText, Intro
from aem_agent.parsers import Parsed
from aem_agent.prompts import Exchange, Parts, PromptSpecError, unframed
from aem_agent.types import AgentError, Message

_ASK = """
Answer with what you think, then exactly one fenced block with what to do next:

```bash
one command, or several joined by && or on lines of their own
```

Every command starts anew in the repository's folder: no state is kept but files. Instead of a command, a block may hold
an edit, whose search text must stand exactly once in the file:

```edit path/of/file.py
<<<<<<< SEARCH
lines as they are
=======
lines as they shall be
>>>>>>> REPLACE
```

When the issue is solved, answer with a bash block that holds the one word submit.
"""


@dataclass(frozen=True, slots=True)
class BashSpec:
    """One message for instruct models: the issue, all turns so far (command and output), and what to answer.

    Chat endpoints get a conversation instead, with each earlier action as the assistant's.
    """

    window: int | None = None
    """Turns shown; None: all that fit."""
    name = "bash"
    parser = "bash"
    stop: tuple[str, ...] = ()
    chat = True
    kept_blocks = 1

    def __post_init__(self) -> None:
        if self.window is not None and (not isinstance(self.window, int) or self.window < 1):
            raise PromptSpecError(f"window is a number of turns from 1, or None for all, not {self.window!r}")

    def head(self, texts: EnvText, first: str) -> Parts:
        return (f"You are a software engineer.\n{unframed(first.strip())}\n{_ASK}",)

    def block(self, texts: EnvText, turn: Exchange) -> Parts:
        return (
            f"\n[Action {turn.number}]\n",
            unframed(turn.action.strip()),
            f"\n[Output]\n{unframed(turn.came.strip())}\n",
        )

    def earlier(self, texts: EnvText, turn: Exchange) -> Parts:
        return ()

    def tail(self, texts: EnvText, number: int, observation: str, info: Mapping[str, Any]) -> Parts:
        return (f"\nYour answer for action {number}:\n",)

    def say(self, texts: EnvText, action: str, observation: str) -> str:
        return action

    def mean(self, texts: EnvText, said: str, observation: str) -> str:
        return said

    def answer(self, said: str, thought: str = "") -> str:
        return f"{thought}\n{fenced(said)}".lstrip("\n")

    def messages(self, head: Parts, blocks: Sequence[Parts], tail: Parts) -> list[Message]:
        messages: list[Message] = [{"role": "user", "content": "".join(map(str, head))}]
        for _, action, came in blocks:
            messages.append({"role": "assistant", "content": fenced(str(action))})
            messages.append({"role": "user", "content": str(came).removeprefix("\n[Output]\n").rstrip("\n")})
        return messages


def fenced(action: str) -> str:
    """An action of the environment as the block that asks for it."""
    first, _, rest = action.partition("\n")
    fence = max(["```", *(f"{ticks}`" for ticks in re.findall(r"^`{3,}", action, re.MULTILINE))], key=len)
    if first.startswith("edit ") and rest.startswith("<<<<<<< SEARCH"):
        return f"{fence}edit {first.removeprefix('edit ').strip()}\n{rest}\n{fence}"
    return f"{fence}bash\n{action}\n{fence}"


_OPENING = re.compile(r"(?P<fence>`{3,})(?P<kind>bash|sh|shell|edit[ \t]+[^ \t`][^`]*)")


@dataclass(frozen=True, slots=True)
class BashParser:
    """The last fenced block of the response, after any `</think>`, is the action.

    A block ends at a fence as long as the one that began it: between longer ones may stand text with fences of its own.
    """

    max_length: int = 100_000
    """Characters an action may have; what is longer is cut and `too_long`."""
    name = "bash"

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise AgentError(f"max_length must be at least 1, not {self.max_length}")

    def __call__(self, text: str) -> Parsed:
        block, opened = _last_block(text.rpartition("</think>")[2])
        if block is None:
            return Parsed("", "unclosed_action" if opened else "missing_action")
        kind, body = block
        action = f"{kind}\n{body}" if kind.startswith("edit") else body.strip()
        if not body.strip():
            return Parsed("", "empty_action")
        return Parsed(action) if len(action) <= self.max_length else Parsed(action[: self.max_length], "too_long")


def _last_block(said: str) -> tuple[tuple[str, str] | None, bool]:
    """(kind and body of the last block, whether one was opened and not closed), in one pass over the lines."""
    last, opening, start = None, None, 0
    lines = said.split("\n")
    for number, line in enumerate(lines):
        bare = line.rstrip(" \t")
        if opening is None:
            opening, start = _OPENING.fullmatch(bare), number + 1
        elif bare == opening["fence"]:
            last, opening = (opening["kind"], "\n".join(lines[start:number]).strip("\n")), None
    return last, opening is not None


_STATUS = re.compile(r"^\[(?:exit code -?\d+|not done: .*|stopped: .*|edited .*|submitted)\]$", re.MULTILINE)


class SwebenchText(AnyText):
    """SWE-bench's texts. In compact form the issue is its title, and an output how it ended."""

    def intro(self, observation: str) -> Intro:
        _, found, rest = observation.partition("\nIssue:\n")
        if not found:
            return super().intro(observation)
        issue = rest.rpartition("\n\nAn action is ")[0].strip()
        return Intro(issue, "", issue.partition("\n")[0].lstrip("# "))

    def compact(self, observation: str) -> str:
        found = _STATUS.findall(observation)
        return found[-1] if found else observation.strip()[-200:]
