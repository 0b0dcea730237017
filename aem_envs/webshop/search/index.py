"""Searches an index on disk. Nothing but the postings that a query touches is read; all processes share the pages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aem_envs.webshop.search.analyser import term, words
from aem_envs.webshop.search.files import (
    PER_POSTING,
    PER_TERM,
    BadIndexError,
    open_array,
    read_header,
    term_hash,
)
from aem_envs.webshop.search.ranking import Matches, best
from aem_envs.webshop.search.scoring import impacts, inverse_norms, weights

MAX_QUERY = 20_000
"""Characters of a query that are read."""

MAX_CACHED_WORDS = 4096
"""Words whose postings are kept at hand (views into the mapped files), but for those of one query more."""


@dataclass(frozen=True, slots=True, eq=False)
class _Postings:
    """Documents that have a term: views into the arrays."""

    docs: NDArray[np.int32]
    scores: NDArray[np.float32]
    bound: float
    part: slice
    """Where they are in the arrays."""

    def impacts(self, places: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        return self.scores if isinstance(places, slice) else self.scores[places]


@dataclass(frozen=True, slots=True, eq=False)
class _Repeated:
    """A term that comes several times in a query: its weight is multiplied, and the scores rounded anew."""

    docs: NDArray[np.int32]
    bound: float
    weight: np.float32
    counts: NDArray[np.unsignedinteger]
    lengths: NDArray[np.uint8]
    inverse: NDArray[np.float32]

    def impacts(self, places: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        return impacts(self.weight, self.counts[places], self.inverse[self.lengths[self.docs[places]]])


class SearchIndex:
    """An index that `IndexBuilder` wrote; read-only, and cheap to open."""

    def __init__(self, folder: Path, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        self._folder = folder
        self.documents: int = facts["documents"]
        """How many there are, those without any term included."""
        self.terms: int = facts["terms"]
        self._filled: int = facts["filled"]
        self._inverse = inverse_norms(facts["average"] or 1.0)
        self._arrays = arrays
        self._words: dict[str, _Postings | None] = {}
        self._postings: dict[int, _Postings] = {}

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Maps the index in `folder`.

        Raises:
            BadIndexError: it is missing, damaged, or of another version. Damage within the arrays shows in `top`.
        """
        header = read_header(folder)
        try:
            facts: dict[str, Any] = {name: int(header[name]) for name in ("documents", "filled", "terms", "postings")}
            facts["average"] = float(header["average"])
            if not (0 <= facts["filled"] <= facts["documents"] and 0 <= facts["average"] < 1e12):
                raise ValueError("impossible statistics")
        except (KeyError, TypeError, ValueError) as error:
            raise BadIndexError(f"search index {folder}: index.json is damaged ({error}); build it again") from error
        arrays = {name: open_array(folder, name, facts["terms"]) for name in PER_TERM}
        arrays |= {name: open_array(folder, name, facts["postings"]) for name in PER_POSTING}
        arrays["lengths"] = open_array(folder, "lengths", facts["documents"])
        return cls(folder, facts, arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or another process, maps the same files."""
        return type(self).open, (self._folder,)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays on disk."""
        return sum(array.nbytes for array in self._arrays.values())

    def top(self, query: str, k: int = 50) -> list[int]:
        """Numbers of the `k` documents that fit `query` best, best first, equal ones ascending.

        Fewer where fewer have any word of it.

        Raises:
            BadIndexError: the postings of a word are damaged.
        """
        if max(len(self._words), len(self._postings)) >= MAX_CACHED_WORDS:
            self._words.clear()
            self._postings.clear()
        found = self._found(words(query[:MAX_QUERY]))
        if not found or k < 1:
            return []
        return best(found, self.documents, k)

    def _found(self, query: list[str]) -> list[Matches]:
        """Documents of each different term of the query."""
        known = self._words
        times: dict[_Postings, int] = {}
        for word in query:
            try:
                postings = known[word]
            except KeyError:
                postings = self._look_up(word)
            if postings is not None:
                times[postings] = times.get(postings, 0) + 1
        return [postings if count == 1 else self._repeated(postings, count) for postings, count in times.items()]

    def _repeated(self, postings: _Postings, times: int) -> Matches:
        if times & (times - 1) == 0:  # rounding is the same
            scores = postings.scores * np.float32(times)
            return _Postings(postings.docs, scores, postings.bound * times, postings.part)
        weight = np.float32(times) * weights(np.array([len(postings.docs)]), self._filled)[0]
        counts = self._arrays["counts"][postings.part]
        bound = postings.bound * times * 1.000001
        return _Repeated(postings.docs, bound, weight, counts, self._arrays["lengths"], self._inverse)

    def _look_up(self, word: str) -> _Postings | None:
        """Postings of a word not met lately."""
        name = term(word)
        found = None if name is None else self._of_term(name)
        if len(word) < 64:
            self._words[word] = found
        return found

    def _of_term(self, name: str) -> _Postings | None:
        hashes = self._arrays["hashes"]
        wanted = np.uint64(term_hash(name))
        number = int(np.searchsorted(hashes, wanted))
        if number == self.terms or hashes[number] != wanted:
            return None
        if number not in self._postings:
            self._postings[number] = self._checked(number)
        return self._postings[number]

    def _checked(self, number: int) -> _Postings:
        """Postings of a term by its place among the hashes.

        Raises:
            BadIndexError: they cannot be right.
        """
        start, size = int(self._arrays["starts"][number]), int(self._arrays["sizes"][number])
        part = slice(start, start + size)
        docs, scores = self._arrays["docs"][part], self._arrays["impacts"][part]
        bound = float(self._arrays["bounds"][number])
        sound = (
            start >= 0
            and 0 < size == len(docs)
            and docs[0] >= 0
            and docs[-1] < self.documents
            and bool((docs[1:] > docs[:-1]).all())
            and float(scores.min()) > 0
            and float(scores.max()) == bound
        )
        if not sound:
            raise BadIndexError(f"search index {self._folder} is damaged (postings of term {number}); build it again")
        return _Postings(docs, scores, bound, part)
