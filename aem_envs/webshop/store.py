"""Products, goals and search index on disk: built once, mapped into memory by every process, read where needed.

meta.json             version, hash, sizes of the other files
products.bin          a JSON list per product; products.npy says where each begins, in doc order
asins.npy             sorted; a product's rank here is its doc number
in_order.npy          doc numbers in the catalogue's order, with sections and queries (for `<c>` and `<q>`)
goals-<kind>.bin …    a JSON list per goal, in their final order, with starts and weights
index/                see `search`
"""

import json
from array import array
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from aem_envs.core import AemEnvError
from aem_envs.webshop.search import IndexBuilder, SearchIndex
from envs_data.webshop.goals import human_goals, synthetic_goals, weigh
from envs_data.webshop.product import Catalogue, Entry, Goal, GoalKind, Product

VERSION = 1
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
    goals: list[Goal] = []
    with (folder / "products.bin").open("wb") as file:
        for done, entry in enumerate(catalogue.entries(), 1):
            product = entry.product
            own = catalogue.nouns(product.title)
            line = json.dumps([*_product_fields(product), own if own is not None else nouns(product.title)])
            starts.append(starts[-1] + file.write(line.encode()))
            index.add(document(product))
            asins.append(product.asin)
            section_of.append(sections.setdefault(product.category, len(sections)))
            query_of.append(_key(product.query))
            goals += _goals_of(entry, kind)
            if done % 1000 == 0:
                progress(done)
    if not asins:
        raise StoreError(f"the catalogue {catalogue.name} has no products")
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
    splits = _write_goals(folder, catalogue, kind, goals)
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    meta = {
        "version": VERSION,
        "name": catalogue.name,
        "data_hash": catalogue.data_hash,
        "tagger": tagger,
        "kind": kind,
        "products": len(asins),
        "goals": len(goals),
        "splits": {name: [splits[name].start, splits[name].stop] for name in catalogue.splits},
        "sections": list(sections),
        "sizes": sizes,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), "utf-8")


def _goals_of(entry: Entry, kind: GoalKind) -> list[Goal]:
    return human_goals(entry) if kind == "human" else synthetic_goals(entry)


def _write_goals(folder: Path, catalogue: Catalogue, kind: GoalKind, goals: list[Goal]) -> Mapping[str, range]:
    if not goals:
        raise StoreError(f"the catalogue {catalogue.name} has no goals of the kind {kind!r}")
    arranged, splits = catalogue.arrange(weigh(goals) if kind == "synthetic" else goals)
    starts = array("Q", [0])
    with (folder / "goals.bin").open("wb") as file:
        for goal in arranged:
            starts.append(starts[-1] + file.write(json.dumps(_goal_fields(goal)).encode()))
    np.save(folder / "goals.npy", np.frombuffer(starts, np.uint64))
    np.save(folder / "weights.npy", np.cumsum([goal.weight for goal in arranged]))
    return splits


def is_sound(folder: Path, name: str, kind: GoalKind, data_hash: str, tagger: str) -> bool:
    """Whether `folder` holds a whole store of this version and of these inputs."""
    try:
        meta = _read_meta(folder)
        wanted = (VERSION, name, kind, data_hash, tagger)
        sizes: dict[str, int] = meta["sizes"]
        return tuple(meta[key] for key in ("version", "name", "kind", "data_hash", "tagger")) == wanted and all(
            (folder / file).stat().st_size == size for file, size in sizes.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, StoreError):
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
        self._records = np.memmap(folder / "products.bin", np.uint8, "r")
        self._goal_starts = _mapped(folder / "goals.npy")
        self._goal_records = np.memmap(folder / "goals.bin", np.uint8, "r")
        self.weights = _mapped(folder / "weights.npy")
        """Sum of the weights of the goals up to and with each."""
        self.index = SearchIndex.open(folder / "index")
        self._record = lru_cache(maxsize=512)(self._read_record)

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

    def section(self, asin: str) -> str:
        """Section of the shop that a product of this store is in."""
        doc = self.find(asin)
        assert doc is not None
        return self.product(doc).category

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

    def goal(self, number: int) -> Goal:
        """The goal of a number from 0."""
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
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _key(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
