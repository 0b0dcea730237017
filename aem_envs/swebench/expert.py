"""Scripted experts: they know the gold patch, and apply it by commands as an agent would."""

import base64
import difflib
import re
import shlex
from collections.abc import Iterator
from random import Random
from typing import Any

from aem_envs.core import BadOptionError, TextEnv
from aem_envs.sanitize import has_controls
from aem_envs.swebench.actions import MAX_ACTION
from aem_envs.swebench.blind import blind_command
from aem_envs.swebench.env import SWEBenchEnv

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
_CHUNK = 60_000
"""Characters of a patch that one command carries."""


class Expert:
    """Applies the gold patch with `git apply`, looks at the outcome, submits.

    With probability `noise` an action is a blind look or change instead, after which its own go on.
    """

    def __init__(self, noise: float = 0.0, seed: int = 0) -> None:
        if not 0 <= noise < 1:
            raise BadOptionError(f"noise is a probability below 1, not {noise!r}")
        self._noise, self._seed = noise, seed
        self._plan: Iterator[str] = iter(())
        self.acted_at_random = False

    def reset(self, env: TextEnv, observation: str, info: dict[str, Any]) -> None:
        """Start an episode on `env`; its seed and this expert's determine the noise."""
        if not isinstance(env, SWEBenchEnv):
            raise BadOptionError(f"this expert plays aem/SWEBench-v0, not {type(env).__name__}")
        self._plan = iter(self.plan(env.task.instance.patch))
        self._rng = Random(f"{self._seed} {info['seed']}")

    def act(self, observation: str, info: dict[str, Any]) -> str:
        """The next action."""
        self.acted_at_random = self._rng.random() < self._noise
        if self.acted_at_random:
            while (command := blind_command(self._rng)) == "submit":
                pass
            return command
        return next(self._plan, "submit")

    def plan(self, patch: str) -> list[str]:
        """Actions that apply `patch`, without the submission."""
        return [*apply_commands(patch), "git status --short"]


class LineExpert(Expert):
    """Changes lines in place by short `sed` commands, where a patch only replaces lines; for small models."""

    def plan(self, patch: str) -> list[str]:
        """One command per line that changes; where lines come or go, the patch is applied whole."""
        return sed_commands(patch) or apply_commands(patch)


def apply_commands(patch: str) -> list[str]:
    """Commands that apply a patch: one if it is short and plain text, else pieces of base64 put together first."""
    mark = "AEM_PATCH"
    if len(patch) + 200 < MAX_ACTION and not has_controls(patch) and mark not in patch:
        text = patch.rstrip("\n")  # and nothing else: a line of context may be a single space
        return [f"git apply --whitespace=nowarn - <<'{mark}'\n{text}\n{mark}"]
    coded = base64.b64encode(patch.encode()).decode()
    pieces = [coded[start : start + _CHUNK] for start in range(0, len(coded), _CHUNK)]
    puts = [f"printf %s {piece} >> /tmp/patch.b64" for piece in pieces]
    return [*puts, "base64 -d /tmp/patch.b64 | git apply --whitespace=nowarn -"]


def sed_commands(patch: str) -> list[str]:
    """A `sed -i` for every replaced line; empty where the patch does anything but replace lines one for one, where a
    line was empty, and where one holds what no action may."""
    commands: list[str] = []
    path, number, gone = "", 0, list[tuple[int, str]]()
    if has_controls(patch):
        return []
    for line in patch.rstrip("\n").split("\n"):
        if line.startswith(("diff ", "index ", "--- ")):
            if gone:
                return []
        elif line.startswith("+++ "):
            path = line[4:].split("\t")[0].removeprefix("b/")
        elif found := _HUNK.match(line):
            number = int(found[1])
        elif line.startswith("-"):
            gone.append((number, line[1:]))
            number += 1
        elif line.startswith("+"):
            if not gone:
                return []
            place, old = gone.pop(0)
            if not old:
                return []
            commands.append(_sed(path, place, old, line[1:]))
        elif line.startswith(" ") and not gone:
            number += 1
        else:  # lines that went without others coming, binary parts, renames
            return []
    return [] if gone else commands


def _sed(path: str, number: int, old: str, new: str) -> str:
    """The shortest substitution, in whole words, that turns line `number` from `old` into `new`."""
    before, after = _words(old), _words(new)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    changed = [op for op in matcher.get_opcodes() if op[0] != "equal"]
    first, last = changed[0], changed[-1]
    start, end, new_start, new_end = first[1], last[2], first[3], last[4]
    while True:
        was, now = "".join(before[start:end]), "".join(after[new_start:new_end])
        if was and old.replace(was, now, 1) == new:
            break
        if start > 0:
            start, new_start = start - 1, new_start - 1
        else:
            end, new_end = end + 1, new_end + 1
    pattern = re.sub(r"([\\/.*\[\]^$])", r"\\\1", was)
    replacement = re.sub(r"([\\/&])", r"\\\1", now)
    return f"sed -i {shlex.quote(f'{number}s/{pattern}/{replacement}/')} {shlex.quote(path)}"


def _words(line: str) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", line)
