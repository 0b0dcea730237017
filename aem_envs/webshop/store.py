"""Products, goals and search index on disk: built once, mapped into memory by every process, read where needed.

meta.json             version, hash, sizes of the other files
products.bin          a JSON list per product; products.npy says where each begins, in doc order
asins.npy             sorted; a product's rank here is its doc number
in_order.npy          doc numbers in the catalogue's order, with sections and queries (for `<c>` and `<q>`)
goals.bin             a JSON list per goal, in their final order; goals.npy says where each begins
index/                see `search`
"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from hashlib import blake2b
from mmap import ACCESS_READ, mmap
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import numpy as np

from aem_envs.core import AemEnvError
from aem_envs.webshop.search import IndexBuilder, SearchIndex
from envs_data.webshop.goals import goal_weight, human_goals, synthetic_goals
from envs_data.webshop.product import Catalogue, Entry, Goal, GoalKind, Product

VERSION = 2
"""Of the files' form and of everything that decides their content."""

Nouns = Callable[[str], tuple[str, ...]]
Progress = Callable[[int], None]
"""Told how many products were done."""


class StoreError(AemEnvError):
    """Files of a store that are not what they should be."""


def document(product: Product) -> str:
    """What the search engine knows of a product."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options)
    return " ".join((product.title, product.description, product.bullets[0], options)).lower()


def build_store(
    folder: Path, catalogue: Catalogue, kind: GoalKind, nouns: Nouns, tagger: str, progress: Progress
) -> None:
    """Write the store of a catalogue into an empty folder; `tagger` names what `nouns` is.

    Raises:
        DataError: the catalogue's files are missing or damaged.
        StoreError: the catalogue has no products, or no goals of this kind.
    """
    (folder / "index").mkdir()
    index = IndexBuilder(folder / "index")
    asins: list[str] = []
    sections: dict[str, int] = {}
    starts, section_of, query_of = array("Q", [0]), array("I"), array("Q")
    goals = _GoalWriter(folder, kind)
    with (folder / "products.bin").open("wb") as file, goals:
        for done, entry in enumerate(catalogue.entries(), 1):
            product = entry.product
            own = catalogue.nouns(product.title)
            line = json.dumps([*_product_fields(product), own if own is not None else nouns(product.title)])
            starts.append(starts[-1] + file.write(line.encode()))
            index.add(document(product))
            asins.append(product.asin)
            section_of.append(sections.setdefault(product.category, len(sections)))
            query_of.append(_key(product.query))
            goals.add(entry, section_of[-1])
            if done % 1000 == 0:
                progress(done)
    if not asins:
        raise StoreError(f"the catalogue {catalogue.name} has no products: its products file is an empty list")
    encoded = np.array([asin.encode() for asin in asins])
    order = np.argsort(encoded, kind="stable")
    ranks = np.empty(len(order), np.uint32)
    ranks[order] = np.arange(len(order), dtype=np.uint32)
    index.finish(order)
    begin = np.frombuffer(starts, np.uint64)
    np.save(folder / "asins.npy", encoded[order])
    np.save(folder / "products.npy", np.stack([begin[:-1][order], begin[1:][order]], axis=1))
    columns = (ranks, np.frombuffer(section_of, np.uint32), np.frombuffer(query_of, np.uint64))
    np.save(folder / "in_order.npy", np.stack([column.astype(np.uint64) for column in columns]))
    splits = goals.finish(catalogue)
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    meta = {
        "version": VERSION,
        "name": catalogue.name,
        "data_hash": catalogue.data_hash,
        "tagger": tagger,
        "kind": kind,
        "products": len(asins),
        "goals": goals.count,
        "splits": {name: [splits[name].start, splits[name].stop] for name in catalogue.splits},
        "sections": list(sections),
        "sizes": sizes,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), "utf-8")


class _GoalWriter:
    """Goals wait on disk for their order: in memory each is a number, and a stand-in while the catalogue arranges them.

    A million products have millions of goals.
    """

    def __init__(self, folder: Path, kind: GoalKind) -> None:
        self._folder, self._kind = folder, kind
        self._place = folder / "goals.waiting"
        self._waiting = self._place.open("wb")
        self._starts, self._sections = array("Q", [0]), array("I")
        self._stand_ins: list[Goal] = []
        self._asked: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.close()

    @property
    def count(self) -> int:
        return len(self._sections)

    def add(self, entry: Entry, section: int) -> None:
        """The goals of the next product."""
        for goal in human_goals(entry) if self._kind == "human" else synthetic_goals(entry):
            self._starts.append(self._starts[-1] + self._waiting.write(json.dumps(_goal_fields(goal)).encode()))
            self._asked.update(goal.attributes)
            self._stand_ins.append(Goal(goal.asin, goal.kind, "", (), (), 0.0, self.count))
            self._sections.append(section)

    def finish(self, catalogue: Catalogue) -> Mapping[str, range]:
        """Write the goals in the catalogue's order; returns its splits."""
        if not self.count:
            raise StoreError(f"the catalogue {catalogue.name} has no goals of the kind {self._kind!r}")
        arranged, splits = catalogue.arrange(self._stand_ins)
        self._stand_ins = []
        order = array("Q", [int(goal.weight) for goal in arranged])
        del arranged
        starts, weights = array("Q", [0]), array("d")
        with (
            (self._folder / "goals.bin").open("wb") as file,
            self._place.open("rb") as waiting,
            mmap(waiting.fileno(), 0, access=ACCESS_READ) as records,
        ):
            for number in order:
                record, weight = self._weighed(records[self._starts[number] : self._starts[number + 1]])
                starts.append(starts[-1] + file.write(record))
                weights.append(weight)
        self._place.unlink()
        np.save(self._folder / "goals.npy", np.frombuffer(starts, np.uint64))
        np.save(
            self._folder / "goal_sections.npy",
            np.frombuffer(self._sections, np.uint32)[np.frombuffer(order, np.uint64)],
        )
        np.save(self._folder / "weights.npy", np.cumsum(np.frombuffer(weights, np.float64)))
        return splits

    def _weighed(self, record: bytes) -> tuple[bytes, float]:
        """A goal's record with its weight, and the weight."""
        if self._kind == "human":
            return record, 1.0
        *rest, attributes, options, limit, _ = json.loads(record)
        weight = goal_weight(attributes, self._asked)
        return json.dumps([*rest, attributes, options, limit, weight]).encode(), weight


def is_sound(folder: Path, name: str, kind: GoalKind, data_hash: str, tagger: str) -> bool:
    """Whether `folder` holds a whole store of this version and of these inputs."""
    try:
        meta = _read_meta(folder)
        wanted = (VERSION, name, kind, data_hash, tagger)
        sizes: dict[str, int] = meta["sizes"]
        if tuple(meta[key] for key in ("version", "name", "kind", "data_hash", "tagger")) != wanted:
            return False
        SearchIndex.open(folder / "index")  # has a version of its own
        return all((folder / file).stat().st_size == size for file, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, AemEnvError):
        return False


def _read_meta(folder: Path) -> dict[str, Any]:
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    if not isinstance(meta, dict):
        raise StoreError(f"{folder / 'meta.json'} is damaged: remove the folder, it is built again")
    return meta


class Store:
    """A store, opened for reading. Nothing is read before it is asked for.

    Raises:
        StoreError: the files are not those of a whole store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = _read_meta(folder)
        self.name: str = meta["name"]
        self.kind: GoalKind = meta["kind"]
        self.data_hash: str = meta["data_hash"]
        self.tagger: str = meta["tagger"]
        self.products: int = meta["products"]
        self.n_goals: int = meta["goals"]
        self.splits = {name: range(*ends) for name, ends in meta["splits"].items()}
        self._sections: list[str] = meta["sections"]
        self._asins = _mapped(folder / "asins.npy")
        self._where = _mapped(folder / "products.npy")
        self._in_order = _mapped(folder / "in_order.npy")
        self._records = np.memmap(folder / "products.bin", np.uint8, "r").view(np.ndarray)
        self._goal_starts = _mapped(folder / "goals.npy")
        self._goal_records = np.memmap(folder / "goals.bin", np.uint8, "r").view(np.ndarray)
        self.weights = _mapped(folder / "weights.npy")
        """Sum of the weights of the goals up to and with each."""
        self._goal_sections = _mapped(folder / "goal_sections.npy")
        self.index = SearchIndex.open(folder / "index")
        self._record = lru_cache(maxsize=512)(self._read_record)
        self.goal = lru_cache(maxsize=64)(self._read_goal)
        """The goal of a number from 0."""

    def product(self, doc: int) -> Product:
        """The product of a doc number."""
        return self._record(doc)[0]

    def nouns(self, doc: int) -> tuple[str, ...]:
        """Nouns of its title, lower case, with repeats."""
        return self._record(doc)[1]

    def find(self, asin: str) -> int | None:
        """The doc number of an asin; None if there is none."""
        name = asin.encode()
        doc = int(np.searchsorted(self._asins, np.bytes_(name)))
        return doc if doc < self.products and bytes(self._asins[doc]) == name else None

    def section(self, goal: int) -> str:
        """Section of the shop that the product of a goal's number is in."""
        return self._sections[int(self._goal_sections[goal])]

    def sections(self) -> dict[str, int]:
        """How many products each section of the shop has, the largest first."""
        codes, counts = np.unique(self._in_order[1], return_counts=True)
        return dict(
            sorted(((self._sections[int(c)], int(n)) for c, n in zip(codes, counts)), key=lambda pair: -pair[1])
        )

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    def of_section(self, section: str) -> list[int]:
        """Doc numbers of a section's products, in the catalogue's order."""
        if section not in self._sections:
            return []
        docs: list[int] = self._in_order[0][self._in_order[1] == self._sections.index(section)].tolist()
        return docs

    def of_query(self, query: str) -> list[int]:
        """Doc numbers of the products that were found by a query, in the catalogue's order."""
        docs: list[int] = self._in_order[0][self._in_order[2] == _key(query)].tolist()
        return docs

    def _read_goal(self, number: int) -> Goal:
        begin, end = self._goal_starts[number : number + 2].tolist()
        asin, kind, instruction, attributes, options, limit, weight = json.loads(
            self._goal_records[begin:end].tobytes()
        )
        wanted = tuple([tuple(option) if isinstance(option, list) else option for option in options])
        return Goal(asin, kind, instruction, tuple(attributes), wanted, limit, weight)

    def _read_record(self, doc: int) -> tuple[Product, tuple[str, ...]]:
        begin, end = self._where[doc].tolist()
        *found, nouns = json.loads(self._records[begin:end].tobytes())
        asin, title, description, bullets, category, query, path, prices, tag, options, attributes = found
        groups = tuple([(name, tuple(values)) for name, values in options])
        product = Product(
            *(asin, title, description, tuple(bullets), category, query, path, tuple(prices), tag),
            *(groups, tuple(attributes)),
        )
        return product, tuple(nouns)


_product_fields = attrgetter(*(field.name for field in fields(Product)))
_goal_fields = attrgetter(*(field.name for field in fields(Goal)))


def _mapped(file: Path) -> Any:
    """Its pages are still read when they are touched; slices of a plain view cost less than those of a memmap."""
    return np.load(file, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def _key(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
