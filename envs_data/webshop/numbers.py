"""Numbers of generated products: their families, their names, and which split a family belongs to. Pure arithmetic."""

from bisect import bisect_right
from hashlib import blake2b
from itertools import accumulate

from envs_data.errors import UnknownTaskError

VERSION = 1
"""Part of every seed and hash: a change that changes products or goals raises it."""

SPLITS = ("train", "dev", "test")

_SALT = 138
"""Chosen so that all splits are among the first four families: small catalogues have them too."""
_FAMILY_SIZES = (4, 8, 5, 7, 6)
"""Sizes of consecutive families, over and over."""
_STARTS = (0, *accumulate(_FAMILY_SIZES))
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PAIRS = tuple(a + b for a in _DIGITS for b in _DIGITS)
_HALF = 36**4
_ROUNDS = ((1_144_633, 7_919), (1_289_747, 104_729), (1_020_379, 15_485), (1_453_217, 32_452))
"""Multiplier and addend of each round of the scrambling."""


def family_size(family: int) -> int:
    """Products of a family, if the catalogue is large enough to hold all of it."""
    return _FAMILY_SIZES[family % len(_FAMILY_SIZES)]


def family_start(family: int) -> int:
    """Number of a family's first product."""
    block, within = divmod(family, len(_FAMILY_SIZES))
    return block * _STARTS[-1] + _STARTS[within]


def family_of(number: int) -> int:
    """Family of a product's number."""
    block, within = divmod(number, _STARTS[-1])
    return block * len(_FAMILY_SIZES) + bisect_right(_STARTS, within) - 1


def _mix(half: int, multiplier: int, addend: int) -> int:
    return (half * half + half * multiplier + addend) // 7


def asin(number: int) -> str:
    """Name of a product's number: unique below 36^8, and in an order that says nothing (a Feistel network)."""
    left, right = divmod(number, _HALF)
    for multiplier, addend in _ROUNDS:
        left, right = right, (left + _mix(right, multiplier, addend)) % _HALF
    return f"B0{_PAIRS[left // 1296]}{_PAIRS[left % 1296]}{_PAIRS[right // 1296]}{_PAIRS[right % 1296]}"


def number_of(name: str) -> int:
    """Number of the product called `name`: `asin` backwards.

    Raises:
        UnknownTaskError: no generated product can be called so.
    """
    if len(name) != 10 or not name.startswith("B0") or not set(name[2:]) <= set(_DIGITS):
        raise UnknownTaskError(f"{name!r} is no product of the embedded catalogue; they are called like {asin(0)}")
    left, right = divmod(int(name[2:], 36), _HALF)
    for multiplier, addend in reversed(_ROUNDS):
        left, right = (right - _mix(left, multiplier, addend)) % _HALF, left
    return left * _HALF + right


def kind_of(family: int, kinds: int) -> int:
    """Which of the kinds of product a family is of: each once in a round of families, each round starts elsewhere."""
    turn, position = divmod(family, kinds)
    return (position + 7 * turn) % kinds


def split_of(family: int, kinds: int) -> str:
    """Split of a family, whatever the size of the catalogue: 75 % train, 10 % dev, 15 % test.

    At most one of two consecutive families of a kind is held out, so that what is asked for in dev or test is of a kind
    that train sells too (from two rounds of families on: 780 products for 65 kinds).
    """
    rounds, late = divmod(family // kinds, 2)
    seed = f"split {VERSION} {_SALT} {kind_of(family, kinds)} {rounds}"
    draw = int.from_bytes(blake2b(seed.encode(), digest_size=8).digest()) / 2**63
    # Below 1: one of the two is held out, the late one if below a half.
    if draw >= 1 or (draw < 0.5) != bool(late):
        return "train"
    return "dev" if draw * 2 % 1 < 0.4 else "test"
