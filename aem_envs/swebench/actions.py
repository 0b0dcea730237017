"""Reading an agent's action: one bash command, one structured edit, or `submit`.

    edit src/package/module.py
    <<<<<<< SEARCH
    the lines to be replaced, exactly as they stand, once in the file
    =======
    the lines to put there
    >>>>>>> REPLACE

An edit may hold several blocks; an empty search in a file that does not exist makes it. Anything else is a command.
"""

import re
from dataclasses import dataclass
from typing import Any

from aem_envs.actions import unusable
from aem_envs.sanitize import has_controls

MAX_ACTION = 100_000
"""Characters of the longest action: whole files are written by actions."""

_EDIT = re.compile(r"edit[ \t]+(?P<path>[^ \t\n][^\n]*)\n(?P<blocks><{7} SEARCH\n.*)", re.DOTALL)
_MARKS = ("<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE")
_FORM = f"an edit has blocks of {', '.join(_MARKS)}, each on a line of its own"


@dataclass(frozen=True)
class Command:
    """A bash command."""

    text: str


@dataclass(frozen=True)
class Edit:
    """Replacements in one file."""

    path: str
    """As the agent gave it: relative to the repository, or absolute."""
    blocks: tuple[tuple[str, str], ...]
    """(lines that stand there, lines to put in their place)."""

    def apply(self, text: str | None) -> str:
        """The file's new text, given the old one (None: there is no file). Raises `EditError`."""
        for number, (old, new) in enumerate(self.blocks, 1):
            which = f"block {number}: " if len(self.blocks) > 1 else ""
            if not old:
                if text:
                    raise EditError(f"{which}an empty search makes a new file, and {self.path} has contents already")
                text = new
                continue
            if text is None:
                raise EditError(f"{which}there is no file {self.path}")
            count = text.count(old)
            if count != 1:
                raise EditError(f"{which}the text to search for stands {count} times in {self.path}, not once")
            text = text.replace(old, new)
        return text or ""


@dataclass(frozen=True)
class Submit:
    """The work is done."""


class EditError(Exception):
    """An edit that cannot be made; the message tells the agent why."""


def read(action: Any) -> tuple[Command | Edit | Submit | None, str | None]:
    """(the action; None), or (None, why it is none). Never raises."""
    if error := unusable(action, MAX_ACTION):
        return None, error
    text = action.strip()
    if not text:
        return None, "the action is empty"
    if has_controls(text):
        return None, "an action has no control characters or invisible marks: write them as escapes, as in $'\\x1b'"
    if text == "submit":
        return Submit(), None
    if found := _EDIT.match(text):
        return _read_edit(found["path"].strip(), found["blocks"])
    return Command(text), None


def _read_edit(path: str, blocks: str) -> tuple[Edit | None, str | None]:
    """Line by line: whatever an agent writes takes no longer than its length."""
    found: list[tuple[str, str]] = []
    texts: tuple[list[str], list[str]] = ([], [])
    part = 0  # lines since the last mark: between blocks, searched for, put there
    for line in blocks.split("\n"):
        if (line.rstrip(" \t") if part == 2 else line) == _MARKS[part]:
            part = (part + 1) % 3
            if part == 0:
                found.append(("".join(texts[0]), "".join(texts[1])))
                texts = ([], [])
        elif part:
            texts[part - 1].append(f"{line}\n")
        elif line:
            return None, _FORM
    return (None, _FORM) if part else (Edit(path, tuple(found)), None)
