"""The official WebShop files as users have them: found, checked, read record by record."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from envs_data.errors import DataError, DataUnavailableError, ProductFileError
from envs_data.filehash import file_sha256
from envs_data.webshop.product import GOAL_KINDS, Entry, Goal, GoalKind
from envs_data.webshop.records import NO_ATTRIBUTES, read_asin, read_attributes, read_human, read_product
from envs_data.webshop.stream import read_items, read_members

VARIABLE = "WEBSHOP_DATA"
"""Environment variable that names the folder of the official files."""
HUMAN_FILE = "items_human_ins.json"
READER = 1
"""Version of what is made of the files; part of the hash. Raise it when cleaning changes."""
SHUFFLE_SEED = 233
TEST, DEV = range(500), range(500, 1500)
"""Numbers of the goals of the two held-out splits, in shuffled order; the rest is for training."""
_NAME = re.compile(r"items_shuffle(?P<size>(_[A-Za-z0-9_-]+)?)\.json")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class OfficialFiles:
    """The files of one catalogue."""

    products: Path
    attributes: Path
    human: Path | None
    """None: absent, and so there are no human goals."""


class OfficialCatalogue:
    """A `Catalogue` of the official files (1.18 million products, or the 1,000 of the small version).

    Skips what the original skips: asin "nan" or longer than ten characters, and products seen before. Asins that
    differ in case only count as the same one: actions are lower-cased, so they could not be told apart. (The original
    upper-cases what was clicked and stops with a KeyError on an asin in lower case; such products are kept here.)
    """

    splits = ("train", "dev", "test")

    def __init__(
        self, place: Path | str | None = None, products: int | None = None, *, cache: Path | None = None
    ) -> None:
        """Find the files; nothing is read yet.

        Args:
            place: The folder of the files, the folder whose `data` has them, or an `items_shuffle*.json` itself; by
                default `$WEBSHOP_DATA`.
            products: Read this many records of the product file only, as the original's `num_products`.
            cache: Folder to remember hashes of unchanged files in (hashing 5.5 GB takes seconds); None: nowhere.

        Raises:
            DataUnavailableError: files are missing; says which and how to get them.
            DataError: fewer than one record asked for.
        """
        if products is not None and products < 1:
            raise DataError(f"a catalogue of {products} products: ask for 1 or more, or for all of them")
        self.files = find_files(place)
        self.name = f"official-{self.files.products.stem}" + (f"-first{products}" if products else "")
        self._products, self._cache = products, cache

    @property
    def goal_kinds(self) -> tuple[GoalKind, ...]:
        """Kinds of goals that these files can make."""
        return GOAL_KINDS if self.files.human else ("synthetic",)

    @property
    def note(self) -> str:
        """For people: what is missing, and what follows; "" when nothing is."""
        if self.files.human:
            return ""
        return f"no {HUMAN_FILE} in {self.files.products.parent}: only synthetic goals; put it there for human ones"

    @property
    def data_hash(self) -> str:
        """16 hex digits of the files' contents, of how many products are read, and of this reader's version."""
        files = (self.files.products, self.files.attributes, self.files.human)
        found = [file_sha256(path, self._cache) if path else "none" for path in files]
        return hashlib.sha256(f"{READER} {self._products} {' '.join(found)}".encode()).hexdigest()[:16]

    def entries(self) -> Iterator[Entry]:
        """Products in the file's order; holds attributes and instructions in memory while it runs, not products."""
        wanted = _by_asin(self.files.attributes, read_attributes)
        human = _by_asin(self.files.human, read_human) if self.files.human else {}
        seen: set[str] = set()
        for number, record in enumerate(read_items(self.files.products), 1):
            asin = None
            try:
                asin = read_asin(record)
                if asin is not None and asin.upper() not in seen:
                    seen.add(asin.upper())
                    attributes, synthetic = wanted.get(asin, (NO_ATTRIBUTES, None))
                    yield Entry(read_product(asin, record, attributes), human.get(asin, ()), synthetic)
            except ProductFileError as error:
                who = f" (asin {asin})" if asin else ""
                raise ProductFileError(f"{self.files.products}: record {number}{who}: {error}") from error
            if number == self._products:
                return

    def arrange(self, goals: list[Goal]) -> tuple[list[Goal], Mapping[str, range]]:
        """Shuffled as the original shuffles (seed 233): 500 goals for test, 1,000 for dev, the rest for training.

        With fewer goals the later splits are shorter, or empty.
        """
        shuffled = list(goals)
        Random(SHUFFLE_SEED).shuffle(shuffled)
        everything = range(len(shuffled))
        held_out = {"dev": everything[DEV.start : DEV.stop], "test": everything[TEST.start : TEST.stop]}
        return shuffled, {"train": everything[DEV.stop :], **held_out}

    def nouns(self, title: str) -> tuple[str, ...] | None:
        """None: the files do not say; ask a tagger."""
        return None


def find_files(place: Path | str | None = None) -> OfficialFiles:
    """The official files at `place`, or at `$WEBSHOP_DATA`; of both sizes in one folder the full one.

    Raises:
        DataUnavailableError: a file is missing; says which, and how to get it.
    """
    how = f"run `aem-data webshop download`, then set {VARIABLE} to the folder that holds items_shuffle*.json"
    named = place or os.environ.get(VARIABLE)
    if not named:
        raise DataUnavailableError(f"official WebShop data: no folder given and {VARIABLE} is not set; {how}")
    at = Path(os.path.expanduser(named))  # noqa: PTH111 (the other one raises where there is no such user)
    products = at if at.is_file() else _product_file(at, how)
    match = _NAME.fullmatch(products.name)
    if not match:
        raise DataUnavailableError(f"{products}: expected a file named items_shuffle.json or items_shuffle_SIZE.json")
    beside = products.parent
    sizes = dict.fromkeys((match["size"], ""))  # the full attribute file knows the products of every smaller one
    attributes = [path for size in sizes if (path := beside / f"items_ins_v2{size}.json").is_file()]
    if not attributes:
        raise DataUnavailableError(f"{beside / 'items_ins_v2'}{match['size']}.json is missing; {how}")
    human = beside / HUMAN_FILE
    return OfficialFiles(products, attributes[0], human if human.is_file() else None)


def _product_file(folder: Path, how: str) -> Path:
    if not folder.is_dir():
        raise DataUnavailableError(f"{folder}: no such file or folder; {how}")
    for within in (folder, folder / "data"):
        found = sorted(path for path in within.glob("items_shuffle*.json") if _NAME.fullmatch(path.name))
        for usual in ("items_shuffle.json", "items_shuffle_1000.json"):
            if within / usual in found:
                return within / usual
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataUnavailableError(f"{within} holds {names}: give the path of the one to use")
        if found:
            return found[0]
    raise DataUnavailableError(f"no items_shuffle*.json in {folder} or its folder data; {how}")


def _by_asin(path: Path, read: Callable[[Any], _Value]) -> dict[str, _Value]:
    found = {}
    for number, (asin, record) in enumerate(read_members(path), 1):
        try:
            found[asin] = read(record)
        except ProductFileError as error:
            raise ProductFileError(f"{path}: record {number} (asin {asin[:20]!r}): {error}") from error
    return found
