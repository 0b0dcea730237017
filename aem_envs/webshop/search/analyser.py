"""Text to index terms as Anserini's English analyser makes them: words, lower case, no stop words, stems.

Words end where Lucene's StandardTokenizer ends them (Unicode's UAX #29 with ideographs and emoji one by one); one
longer than 255 UTF-16 units is cut. Plain ASCII, which most text is, takes a regular expression; the rest is first
turned into a string of character classes.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from aem_envs.webshop.search.stemmer import stem

ANALYSIS_VERSION = 1
"""Goes up with every change of the terms that a text gives."""

MAX_WORD = 255
"""UTF-16 units of a word."""

_STOP = "a an and are as at be but by for if in into is it no not of on or such that the their then there these they"
STOP_WORDS = frozenset(f"{_STOP} this to was will with".split())
_APOSTROPHES = "'\u2019\uff07"

_ASCII_WORD = re.compile(
    r"[0-9A-Za-z_]+(?:(?:(?<=[A-Za-z])[.:'](?=[A-Za-z])|(?<=[0-9])[.,;'](?=[0-9]))[0-9A-Za-z_]+)*", re.ASCII
)

_X = "[xzvyuw]*"
"""Characters that belong to the one before."""
_LETTERS = rf"(?:h{_X}q{_X}|h{_X}d{_X}(?=h)|[ah]{_X}(?:[lbq]{_X}(?=[ah]))?)"
_DIGITS = rf"(?:n{_X}(?:[mbq]{_X}(?=n))?)"
_PART = rf"(?:(?:k{_X})+|(?:{_LETTERS}|{_DIGITS})+)"
_Y = "[xzyu]*"
"""Those of them that may stand anywhere in an emoji."""
_PICTOGRAPH = rf"(?:g{_Y}f{_Y}|[pg]{_Y}(?:v(?:z+(?=[pgf]))?)?)"
_CLASS_WORD = re.compile(
    rf"(?:e{_X})*{_PART}(?:(?:e{_X})+{_PART})*(?:e{_X})*"
    rf"|(?:[tu]{_X})+"
    rf"|i{_X}"
    rf"|(?:z*{_PICTOGRAPH}|f{_Y})(?:(?<=z)(?:{_PICTOGRAPH}|f{_Y}))*"
    rf"|r{_X}r{_X}"
    rf"|s{_Y}v?y{_Y}"
    r"|((?:e(?:[xvyw]|z+(?![zpg]))*)+|z+)"  # joiners alone are no word
)


def analyse(text: str) -> list[str]:
    """Terms of `text` in their order, repeated ones repeated; lone surrogates count as spaces."""
    return [found for found in map(term, words(text)) if found is not None]


def words(text: str) -> list[str]:
    """Words of `text` as written; some, such as "the" and "___", are no terms."""
    found = _uncut(text)
    if found and max(map(len, found)) * 2 > MAX_WORD:
        return [piece for word in found for piece in ([word] if _units(word) <= MAX_WORD else _cut(word))]
    return found


def _uncut(text: str) -> list[str]:
    return _ASCII_WORD.findall(text) if text.isascii() else list(_unicode_words(text))


def term(word: str) -> str | None:
    """Index term of one of `words`; None if it has none."""
    if len(word) > 1 and word[-1] in "sS" and word[-2] in _APOSTROPHES:
        word = word[:-2]
    word = word.lower() if word.isascii() else "".join(map(_lower, word))
    if word in STOP_WORDS or not word.strip("_"):
        return None
    return stem(word)


def _lower(letter: str) -> str:
    """One letter for one, as Java's Character.toLowerCase."""
    return letter.lower() if letter != "\u0130" else "i"


def _unicode_words(text: str) -> Iterator[str]:
    classes = text.translate(_character_classes())
    for found in _CLASS_WORD.finditer(classes):
        if found[1] is None:
            yield text[found.start() : found.end()]


def _cut(word: str) -> Iterator[str]:
    """A word that is too long, as one finds words who sees no more than so much of the text at once."""
    start = 0
    while start < len(word):
        window = word[start : start + MAX_WORD]
        while (excess := _units(window) - MAX_WORD) > 0:
            window = window[: -((excess + 1) // 2)]
        found = _uncut(window)
        skipped = window.index(found[0]) if found else len(window)
        if not skipped:
            yield found[0]
        start += skipped or len(found[0])


def _units(word: str) -> int:
    return len(word) + sum(letter > "\uffff" for letter in word)


class _Classes(dict[int, str]):
    """Class letter by code point, looked up when first met; holds at most `LIMIT`."""

    LIMIT = 4096

    def __init__(self) -> None:
        super().__init__()
        table = json.loads((Path(__file__).parent / "characters.json").read_text("utf-8"))["classes"]
        ranges = []
        for letter, entry in table.items():
            for piece in entry["ranges"].split():
                first, _, last = piece.partition("-")
                ranges.append((int(first, 16), int(last or first, 16), letter))
        ranges.sort()
        self._starts = [first for first, _, _ in ranges]
        self._ranges = ranges

    def __missing__(self, point: int) -> str:
        index = bisect_right(self._starts, point) - 1
        letter = " "
        if index >= 0 and point <= self._ranges[index][1]:
            letter = self._ranges[index][2]
        if len(self) >= self.LIMIT:
            self.clear()
        self[point] = letter
        return letter


@cache
def _character_classes() -> _Classes:
    return _Classes()
