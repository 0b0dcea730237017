"""Patches as git writes them: which files they touch, and their reverse. Where a hunk ends, the sizes in its
header tell, so that a removed line "-- a" is never taken for a header."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from envs_data.errors import DataError

NOTHING = "/dev/null"
_HUNK = re.compile(r"@@ -(\d{1,9}(?:,\d{1,9})?) \+(\d{1,9}(?:,\d{1,9})?) @@(.*)", re.DOTALL)
_EXTENDED = (
    "old mode ",
    "new mode ",
    "deleted file mode ",
    "new file mode ",
    "copy from ",
    "copy to ",
    "rename from ",
    "rename to ",
    "similarity index ",
    "dissimilarity index ",
    "index ",
)
_ESCAPES = {"n": 10, "t": 9, "r": 13, "a": 7, "b": 8, "f": 12, "v": 11, '"': 34, "\\": 92}


class DiffFormatError(DataError):
    """A text is no patch in git's form, or one that cannot be reversed (binary or copied files)."""


@dataclass
class FileDiff:
    """What a patch does to one file."""

    header: list[str] = field(default_factory=list)
    """From "diff --git" to "index": as they stand."""
    old: str = ""
    """What follows "--- "; "" where there are no hunks."""
    new: str = ""
    hunks: list["Hunk"] = field(default_factory=list)
    binary: bool = False

    @property
    def old_path(self) -> str | None:
        """Path before the patch; None of a new file."""
        return self._path(self.old, ("rename from ", "copy from "), "new file mode ")

    @property
    def new_path(self) -> str | None:
        """Path after the patch; None of a deleted file."""
        return self._path(self.new, ("rename to ", "copy to "), "deleted file mode ")

    def _path(self, name: str, moved: tuple[str, str], absent: str) -> str | None:
        if name == NOTHING or any(line.startswith(absent) for line in self.header):
            return None
        for line in self.header:
            if line.startswith(moved):
                return unquote(line.split(" ", 2)[2])
        if name:
            return unquote(name)[2:]
        return _same_path(self.header[0])  # an empty file, or a change of mode alone


@dataclass
class Hunk:
    """A run of lines."""

    old: str
    """Position and number of lines before: "1,7" of "@@ -1,7 +1,8 @@"."""
    new: str
    section: str
    """What follows the second "@@"."""
    lines: list[str]


def read_diff(diff: str) -> list[FileDiff]:
    """The files of a patch, in order. Lines end at "\\n" alone: a carriage return is part of a file's line.

    Raises:
        DiffFormatError: not in git's form, or cut off.
    """
    lines = diff.split("\n")
    if lines[-1] == "":
        lines.pop()
    files: list[FileDiff] = []
    at = 0
    while at < len(lines):
        start = at
        if lines[at].startswith("diff --git "):
            at = _header(lines, at + 1)
        if at + 1 < len(lines) and lines[at].startswith("--- ") and lines[at + 1].startswith("+++ "):
            file = FileDiff(lines[start:at], _name(lines[at]), _name(lines[at + 1]))
            at = _hunks(lines, at + 2, file)
        elif at > start:
            file = FileDiff(lines[start:at])
            at = _binary(lines, at, file)
        elif files and lines[at].strip():
            raise DiffFormatError(f"line {at + 1} of the patch belongs to no file: {lines[at][:60]!r}")
        else:  # what stands before the first file, or an empty line between two
            at += 1
            continue
        files.append(file)
    return files


def reverse_diff(diff: str) -> str:
    """The patch that undoes `diff`: new files become deleted ones, modes and names swap, as `git apply -R` would.

    Raises:
        DiffFormatError: see `read_diff`; also for binary files, and for copied ones, whose reverse would need contents.
    """
    reverse = [line for file in read_diff(diff) for line in _reversed(file)]
    return "".join(f"{line}\n" for line in reverse)


def unquote(name: str) -> str:
    """A path as git writes it: in quotes and with escapes where it holds unusual characters."""
    if not (len(name) >= 2 and name.startswith('"') and name.endswith('"')):
        return name
    raw = bytearray()
    inner = name[1:-1]
    for match in re.finditer(r"\\([0-7]{3})|\\(.)|([^\\]+)", inner, re.DOTALL):
        octal, escape, plain = match.groups()
        if octal:
            raw.append(int(octal, 8) & 255)
        elif escape:
            if escape not in _ESCAPES:
                raise DiffFormatError(f"the patch holds a path with an unknown escape: {name[:60]!r}")
            raw.append(_ESCAPES[escape])
        else:
            raw += plain.encode("utf-8", "surrogatepass")
    return raw.decode("utf-8", "replace")


def _header(lines: list[str], at: int) -> int:
    while at < len(lines) and lines[at].startswith(_EXTENDED):
        at += 1
    return at


def _binary(lines: list[str], at: int, file: FileDiff) -> int:
    """Step over a binary file's contents."""
    if at < len(lines) and lines[at].startswith(("GIT binary patch", "Binary files ")):
        file.binary = True
        while at < len(lines) and not lines[at].startswith("diff --git "):
            at += 1
    return at


def _name(line: str) -> str:
    return line[4:].split("\t")[0]  # git ends names that hold spaces with a tab; others put a date there


def _hunks(lines: list[str], at: int, file: FileDiff) -> int:
    while at < len(lines) and (match := _HUNK.fullmatch(lines[at])):
        old, new, section = match.groups()
        start = at + 1
        at = _hunk_end(lines, start, _size(old), _size(new))
        file.hunks.append(Hunk(old, new, section, lines[start:at]))
    if not file.hunks:
        raise DiffFormatError(f"the patch of {file.new[:60]!r} has no hunks: cut off?")
    return at


def _hunk_end(lines: list[str], at: int, old: int, new: int) -> int:
    while at < len(lines) and (old > 0 or new > 0 or lines[at].startswith("\\")):
        kind = lines[at][:1]
        if kind not in ("", " ", "-", "+", "\\"):
            raise DiffFormatError(f"line {at + 1} of the patch is no part of its hunk: {lines[at][:60]!r}")
        old -= kind in ("", " ", "-")
        new -= kind in ("", " ", "+")
        at += 1
    if old or new:
        raise DiffFormatError(f"the hunk before line {at + 1} of the patch has not the lines its header says")
    return at


def _size(lines: str) -> int:
    """Lines of "7,8", which are 8, or of "7", which is one."""
    return int(lines.partition(",")[2] or 1)


def _reversed(file: FileDiff) -> Iterator[str]:
    if file.binary:
        raise DiffFormatError(f"the patch changes a binary file ({file.header[0][:80]!r}); only text can be reversed")
    yield from _reversed_header(file.header)
    if file.hunks:
        yield f"--- {_prefixed(file.new, 'a')}" + ("\t" if " " in file.new else "")
        yield f"+++ {_prefixed(file.old, 'b')}" + ("\t" if " " in file.old else "")
    for hunk in file.hunks:
        yield f"@@ -{hunk.new} +{hunk.old} @@{hunk.section}"
        yield from _reversed_lines(hunk.lines)


def _reversed_header(header: list[str]) -> Iterator[str]:
    def value(start: str) -> str:
        return next((line.removeprefix(start) for line in header if line.startswith(start)), "")

    source, target = value("rename from "), value("rename to ")
    for line in header:
        if line.startswith("copy "):
            raise DiffFormatError("the patch copies a file; its reverse cannot be told from the patch alone")
        if line.startswith("diff --git ") and target:
            yield f"diff --git {_prefixed(target, 'a', bare=True)} {_prefixed(source, 'b', bare=True)}"
        elif line.startswith("old mode "):
            yield f"old mode {value('new mode ')}"
        elif line.startswith("new mode "):
            yield f"new mode {value('old mode ')}"
        elif line.startswith("new file mode "):
            yield f"deleted file mode {value('new file mode ')}"
        elif line.startswith("deleted file mode "):
            yield f"new file mode {value('deleted file mode ')}"
        elif line.startswith("rename from "):
            yield f"rename from {target}"
        elif line.startswith("rename to "):
            yield f"rename to {source}"
        elif match := re.fullmatch(r"index ([0-9a-f]+)\.\.([0-9a-f]+)( \d+)?", line):
            yield f"index {match[2]}..{match[1]}{match[3] or ''}"
        else:
            yield line


def _reversed_lines(lines: list[str]) -> Iterator[str]:
    """The lines with "+" and "-" swapped; in each run of changes what is removed stands first, as git writes it."""
    removed: list[str] = []
    added: list[str] = []
    last: list[str] = []
    for line in lines:
        if line.startswith("+"):
            removed.append("-" + line[1:])
            last = removed
        elif line.startswith("-"):
            added.append("+" + line[1:])
            last = added
        elif line.startswith("\\") and last:
            last.append(line)
        else:
            yield from (*removed, *added, line)
            removed, added, last = [], [], []
    yield from (*removed, *added)


def _prefixed(name: str, letter: str, *, bare: bool = False) -> str:
    """A path with "a/" or "b/" before it; `bare` if it has neither yet."""
    if name == NOTHING:
        return name
    quote, rest = ('"', name[1:]) if name.startswith('"') else ("", name)
    if bare:
        return f"{quote}{letter}/{rest}"
    return f"{quote}{letter}/{rest[2:]}" if rest[:2] in ("a/", "b/") else name


def _same_path(line: str) -> str:
    """The path of "diff --git a/x b/x", where both are one."""
    rest = line.removeprefix("diff --git ")
    half = unquote(rest[: len(rest) // 2]), unquote(rest[len(rest) // 2 + 1 :])
    if half[0][:2] != "a/" or half[1][:2] != "b/" or half[0][2:] != half[1][2:]:
        raise DiffFormatError(f"the patch does not say which file it means: {line[:80]!r}")
    return half[0][2:]
