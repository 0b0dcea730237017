"""BM25 as Lucene 8 computes it: single precision throughout, and document lengths kept in one byte.

    score(term, document) = w - w / (1 + count · n(length)),   n(length) = 1 / (k1 (1 - b + b · length / average))
    w = (times in the query) · ln(1 + (N - df + ½) / (df + ½))

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009; BM25Similarity and SmallFloat of
Apache Lucene 8.11; k1 and b are Anserini's.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

K1 = np.float32(0.9)
B = np.float32(0.4)
_ONE = np.float32(1)

Floats = NDArray[np.float32]


def _decoded(code: int) -> int:
    """Words that a length byte stands for: exact up to 40, then four significant bits."""
    if code < 24:
        return code
    bits, shift = (code - 24) & 7, ((code - 24) >> 3) - 1
    return 24 + (bits if shift < 0 else (bits | 8) << shift)


LENGTHS: NDArray[np.int64] = np.array([_decoded(code) for code in range(256)])
"""Words per length byte, ascending."""


def length_bytes(words: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Bytes of document lengths, rounded down."""
    return (np.searchsorted(LENGTHS, words, side="right") - 1).astype(np.uint8)


def inverse_norms(average: float) -> Floats:
    """n(length) per length byte, where documents have `average` words."""
    relative = B * LENGTHS.astype(np.float32) / np.float32(average)
    return _ONE / (K1 * ((_ONE - B) + relative))


def weights(frequencies: NDArray[Any], documents: int) -> Floats:
    """Weight of terms by the number of documents that have them, of `documents` that have any."""
    return np.log(1 + (documents - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)


def impacts(weight: Floats | np.float32, counts: NDArray[Any], inverse: Floats) -> Floats:
    """Scores by weight, count of the term, and n(length); shapes broadcast."""
    score: Floats = weight - weight / (_ONE + counts.astype(np.float32) * inverse)
    return score
