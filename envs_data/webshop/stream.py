"""JSON files of any size, read record by record in the memory of one record.

WebShop's product file is one JSON list of 5.5 GB; `json.load` would need tens of gigabytes for it. The standard
library's C decoder does the parsing here, one record at a time, and so needs neither a package of its own
nor a second reading of JSON's rules.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from envs_data.errors import ProductFileError

LONGEST = 1 << 26
"""Characters; a longer record is refused (the longest official ones have some ten thousand)."""
_CHUNK = 1 << 21
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def read_items(path: Path) -> Iterator[Any]:
    """Elements of the list that the file holds.

    Raises:
        ProductFileError: not UTF-8, not JSON, not a list, cut off; with the number of the record, counted from 1.
    """
    return (value for _, value in _read(path, "[", "]"))


def read_members(path: Path) -> Iterator[tuple[str, Any]]:
    """(key, value) pairs of the object that the file holds, repeated keys too.

    Raises:
        ProductFileError: as `read_items`, for an object.
    """
    return _read(path, "{", "}")


def _read(path: Path, opening: str, closing: str) -> Iterator[tuple[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _records(_Window(file, path), opening, closing)
    except UnicodeDecodeError as error:
        raise ProductFileError(f"{path}: is not UTF-8 text ({error.reason}); fetch it again") from error
    except OSError as error:
        raise ProductFileError(f"{path}: cannot be read ({error.strerror or error})") from error


def _records(window: "_Window", opening: str, closing: str) -> Iterator[tuple[str, Any]]:
    holds = "a list" if opening == "[" else "an object"
    if not window.take(opening):
        raise window.fault(f"expected {holds} ('{opening}') at its start")
    last = window.take(closing)
    while not last:
        window.record += 1
        key = ""
        if opening == "{":
            key = window.value()
            if not isinstance(key, str) or not window.take(":"):
                raise window.fault("expected a key in quotes, then ':'")
        yield key, window.value()
        if not window.take(","):
            last = window.take(closing)
            if not last:
                raise window.fault(f"expected ',' or '{closing}' after it")
    if window.next():
        raise window.fault(f"goes on after its closing '{closing}'")


class _Window:
    """The text not yet read, as much of it as has been needed so far."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.record = 0
        self._file, self._path = file, path
        self._text, self._at, self._ended = "", 0, False

    def next(self) -> str:
        """The next character that is not white space, left in place; "" at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> bool:
        """Whether the next character is `wanted`, which is then behind us."""
        found = self.next() == wanted
        self._at += found
        return found

    def value(self) -> Any:
        """The next JSON value.

        Numbers on their own may come in two where a chunk ends; no file read here has any outside its records.
        """
        self.next()
        while True:
            try:
                value, self._at = _DECODER.raw_decode(self._text, self._at)
                return value
            except json.JSONDecodeError as error:
                if not self._more():
                    raise self._not_json(error) from error
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets within brackets
                raise self.fault(f"cannot be read ({error})") from error

    def fault(self, why: str) -> ProductFileError:
        where = f"record {self.record}: " if self.record else ""
        if not self.next():
            return ProductFileError(f"{self._path}: {where}{why}, and the file ends there: cut off? Fetch it again")
        return ProductFileError(f"{self._path}: {where}{why}; found {self._text[self._at : self._at + 30]!r}")

    def _not_json(self, error: json.JSONDecodeError) -> ProductFileError:
        start = f"{self._path}: record {self.record}: "
        if not error.msg.startswith("Unterminated") and error.pos < len(self._text) - 8:
            found = self._text[error.pos : error.pos + 30]
            return ProductFileError(f"{start}not JSON ({error.msg}), found {found!r}; fetch the file again")
        if not self._ended:
            return ProductFileError(f"{start}longer than {LONGEST} characters; refused")
        return ProductFileError(f"{start}the file ends in the middle of it: cut off; fetch it again")

    def _more(self) -> bool:
        """Read on, twice as far every time, so that a long record is not parsed over and over; False: no more."""
        unread = len(self._text) - self._at
        if self._ended or unread > LONGEST:
            return False
        fresh = self._file.read(max(_CHUNK, unread))
        self._text, self._at, self._ended = self._text[self._at :] + fresh, 0, not fresh
        return bool(fresh)
