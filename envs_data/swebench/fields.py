"""Fields of one row of an instance file: read with their types and sizes checked, refused with the place named.

Rows come from anywhere, and what they hold ends in shell scripts, container names and file paths.
"""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envs_data.errors import DataError

MAX_TEXT = 16_000_000
"""Characters of a text; the longest official patch has some 200 thousand."""
MAX_BLOB = 64_000_000
"""Characters of a field that holds a JSON document (R2E-Gym keeps whole files in one)."""
MAX_TESTS = 200_000
"""Tests of a list; the longest official list has some 20 thousand."""
MAX_TEST = 10_000
"""Characters of a test's name."""

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@=-]{0,199}")
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99})?")
_COMMIT = re.compile(r"[0-9a-fA-F]{4,64}\^?|HEAD")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class InstanceFileError(DataError):
    """A file of SWE-bench instances is absent, cut off, too large or of no known form; the message says where."""


class InstanceFieldError(InstanceFileError):
    """A field of a row is absent, of another type, too long or unfit for what it is used for."""


@dataclass(frozen=True)
class Fields:
    """One row, and where it stands: every method raises `InstanceFieldError` that names both."""

    row: Mapping[str, Any]
    where: str
    """File and row, such as "rows.jsonl: line 3"."""

    def has(self, *names: str) -> bool:
        """Whether all of the fields are there and not null."""
        return all(self.row.get(name) is not None for name in names)

    def text(self, name: str, default: str | None = None, *, limit: int = MAX_TEXT) -> str:
        """A text that a program reads; `default` where the field is absent or null."""
        found = self.row.get(name)
        if found is None and default is not None:
            return default
        if not isinstance(found, str):
            raise self.fault(name, "a string", found)
        if len(found) > limit:
            raise self.fault(name, f"at most {limit} characters", f"{len(found)} of them")
        if "\0" in found or not _encodable(found):
            raise self.fault(name, "text", "a null character or half of a surrogate pair")
        return found

    def prose(self, name: str, default: str | None = None) -> str:
        """A text that is only shown: what no file could hold is replaced by U+FFFD."""
        found = self.row.get(name)
        if not isinstance(found, str) or len(found) > MAX_TEXT:
            return self.text(name, default)
        return found.replace("\0", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def label(self, name: str) -> str:
        """A version or a date: a string, a number, or what parquet makes of a date; "" where absent."""
        found = self.row.get(name)
        if found is None:
            return ""
        label = found if isinstance(found, str) else str(found)
        if isinstance(found, (list, dict, bytes)) or len(label) > 200 or not label.isprintable():
            raise self.fault(name, "a short string or a number", found)
        return label

    def instance_id(self, name: str = "instance_id") -> str:
        """The name of the instance, which is also a file's and a container's."""
        return self._fitting(name, _ID, "letters, digits, '_', '.', '+', '@', '=' and '-', at most 200")

    def repo(self, name: str = "repo") -> str:
        return self._fitting(name, _REPO, "owner/name")

    def commit(self, name: str = "base_commit", default: str | None = None) -> str:
        return self._fitting(name, _COMMIT, "a commit's hash", default)

    def image(self, name: str = "image") -> str:
        return self._fitting(name, _IMAGE, "the name of a container image")

    def identifier(self, name: str) -> str:
        return self._fitting(name, _NAME, "a name of letters, digits and '_'")

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """One of the known words; the first one where the field is absent."""
        found = self.text(name, known[0], limit=1000)
        if found not in known:
            raise self.fault(name, f"one of {', '.join(known)}", found)
        return found

    def tests(self, name: str) -> tuple[str, ...]:
        """Names of tests: a list, or a string that holds one as JSON or as Python writes it."""
        found = self.row.get(name)
        if isinstance(found, str):
            found = _list_in(self.text(name))
        if not isinstance(found, (list, tuple)) or len(found) > MAX_TESTS:
            raise self.fault(name, f"a list of at most {MAX_TESTS} test names, or a string that holds one", found)
        for test in found:
            if not isinstance(test, str) or not 0 < len(test) <= MAX_TEST or not _encodable(test) or "\0" in test:
                raise self.fault(name, f"test names of 1 to {MAX_TEST} characters", test)
        return tuple(dict.fromkeys(found))

    def document(self, name: str) -> dict[str, Any]:
        """An object, or a string that holds one as JSON."""
        found = self.row.get(name)
        if isinstance(found, str):
            try:
                found = json.loads(self.text(name, limit=MAX_BLOB))
            except (ValueError, RecursionError) as error:
                raise self.fault(name, "an object as JSON", f"text that is none ({error})") from error
        if not isinstance(found, dict):
            raise self.fault(name, "an object, or a string that holds one as JSON", found)
        return found

    def fault(self, name: str, expected: str, found: object) -> InstanceFieldError:
        """What to raise about a field."""
        what = "is absent or null" if found is None else f"is {shown(found)}"
        return InstanceFieldError(f"{self.place}: field {name!r} {what}; expected {expected}")

    @property
    def place(self) -> str:
        """File, row and instance, as messages name them."""
        found = self.row.get("instance_id")
        return f"{self.where}: instance {shown(found)}" if isinstance(found, str) else self.where

    def _fitting(self, name: str, form: re.Pattern[str], expected: str, default: str | None = None) -> str:
        found = self.text(name, default, limit=1000)
        if not form.fullmatch(found) or ".." in found:
            raise self.fault(name, expected, found)
        return found


def fits_image(image: str) -> bool:
    """Whether a text can be the name of a container image."""
    return _IMAGE.fullmatch(image) is not None and ".." not in image


def shown(found: object) -> str:
    """A value as messages show it: short, and on one line."""
    if isinstance(found, (list, tuple)):
        return "a list"
    if isinstance(found, dict):
        return "an object"
    text = repr(found)
    return text if len(text) <= 80 else text[:80] + "…"


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _list_in(text: str) -> object:
    """The list that a text holds; the text itself where it holds none. Only literals are ever evaluated."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text) if text.lstrip().startswith("[") else text
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
