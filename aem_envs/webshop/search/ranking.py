"""The best documents for a set of terms, exactly, without scoring all of them where there are many.

Terms are taken in order of what they can add at most. Once the k best have more than the terms left could give to a
document not met yet, those terms (the common ones, with most of the postings) are looked up only for the documents
that can still get among the best: MaxScore (H. Turtle and J. Flood, "Query evaluation: strategies and optimizations",
Information Processing & Management 31(6), 1995), here for whole arrays at a time.

Sums are taken in double precision, in which they are exact, and rounded to single precision, as Lucene has them.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

FEW_POSTINGS = 20_000
"""Below this many all are simply added up."""

LOOK_UP = 8
"""Postings that can be added up in the time in which one is looked up."""

TINY = 1e-30
"""Less than any impact."""

ALL = slice(None)

SLACK = 1e-6
"""Relative: more than rounding to single precision changes a score."""


class Matches(Protocol):
    """Documents that have a term."""

    @property
    def docs(self) -> NDArray[np.int32]:
        """Ascending."""
        ...

    @property
    def bound(self) -> float:
        """No impact is larger."""
        ...

    def impacts(self, places: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        """What the term adds to the scores of the documents at some places of `docs`."""
        ...


def best(matches: Sequence[Matches], documents: int, k: int) -> list[int]:
    """Numbers of the `k` documents with the highest scores above 0, highest first, equal ones ascending."""
    if sum(len(match.docs) for match in matches) > FEW_POSTINGS:
        matches = sorted(matches, key=lambda match: -match.bound)
        count = _heaviest(matches, documents // 32)
    else:
        count = len(matches)
    scores = _added(matches[:count], documents)
    while matches := matches[count:]:
        left = sum(match.bound for match in matches)
        floor = _floor(scores, k)
        if floor > left:
            docs = np.flatnonzero(scores >= floor - left).astype(np.int32)  # of one type with `Matches.docs`
            if len(docs) * len(matches) * LOOK_UP < sum(len(match.docs) for match in matches):
                return _finished(docs, scores[docs], matches, k)
        count = _heaviest(matches, documents // 8)
        scores += _added(matches[:count], documents)
    return _ranked(np.flatnonzero(scores >= _floor(scores, k)), scores, k)


def _heaviest(matches: Sequence[Matches], postings: int) -> int:
    """How many of the first terms to score at once: so many that they have more than `postings`, or all."""
    for count, match in enumerate(matches, 1):
        postings -= len(match.docs)
        if postings < 0:
            return count
    return len(matches)


def _added(matches: Sequence[Matches], documents: int) -> Scores:
    """Score of each document by these terms alone."""
    docs = np.concatenate([match.docs for match in matches])
    impacts = np.concatenate([match.impacts(ALL) for match in matches])
    scores: Scores = np.bincount(docs, impacts, documents).astype(np.float64, copy=False)  # says the type
    return scores


def _finished(docs: NDArray[np.int32], scores: Scores, matches: Sequence[Matches], k: int) -> list[int]:
    """The best of `docs`, which `scores` lack `matches`."""
    left = sum(match.bound for match in matches)
    for match in matches:
        places = np.searchsorted(match.docs, docs)
        places[places == len(match.docs)] = 0
        scores += np.where(match.docs[places] == docs, match.impacts(places), np.float32(0))
        left -= match.bound
        keep = scores >= _floor(scores, k) - left
        docs, scores = docs[keep], scores[keep]
    order = np.lexsort((docs, -scores.astype(np.float32)))[:k]
    ranked: list[int] = docs[order].tolist()
    return ranked


def _floor(scores: Scores, k: int) -> float:
    """Above 0, and no higher than the k-th highest score as rounded, but close to it where that is above 0."""
    rows = min(64, len(scores) // (4 * k))
    if rows > 1:  # the highest of each of many groups
        columns = len(scores) // rows
        scores = scores[: rows * columns].reshape(rows, columns).max(axis=0)
    if len(scores) > k:
        return max(TINY, float(np.partition(scores, len(scores) - k)[len(scores) - k]) * (1 - SLACK))
    return TINY


def _ranked(docs: NDArray[np.intp], scores: Scores, k: int) -> list[int]:
    """The `k` best of `docs`, which are in ascending order."""
    order = np.argsort(-scores[docs].astype(np.float32), kind="stable")[:k]
    ranked: list[int] = docs[order].tolist()
    return ranked
