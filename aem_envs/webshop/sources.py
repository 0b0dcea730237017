"""The shop that settings of the environment name: its catalogue, its store in the cache, opened once per process."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

from aem_envs.cache import cache_root, shared_folder
from aem_envs.core import BadOptionError
from aem_envs.webshop.shop import Shop
from aem_envs.webshop.store import Progress, Store, build_store, is_sound
from envs_data.webshop.generator import EmbeddedCatalogue
from envs_data.webshop.nouns import Tagger, TaggerName, pick_tagger
from envs_data.webshop.official import OfficialCatalogue
from envs_data.webshop.product import Catalogue, GoalKind

SourceName = Literal["embedded", "official"]
PRODUCTS = 1000
"""Products of the embedded catalogue unless said otherwise."""

OWN_NOUNS = "vocabulary"
"""Named as the tagger of a catalogue that knows the nouns of its titles itself."""

_PATIENCE = 2.0
"""Seconds a build may take before it shows its progress."""


def open_shop(
    source: SourceName, products: int | None, kind: GoalKind, tagger: TaggerName, data: str | None, cache: str | None
) -> Shop:
    """The shop of these settings; built on disk if it is not there yet, which takes seconds to minutes.

    Raises:
        BadOptionError: settings that do not go together.
        DataError: the official files are missing or damaged, or no noun tagger is installed.
        StoreError: there are no goals of this kind.
        CacheError: the store cannot be written.
    """
    if products is not None and (isinstance(products, bool) or not isinstance(products, int) or products < 1):
        raise BadOptionError(f"products is a number from 1, not {products!r}")
    for setting, path in (("data", data), ("cache", cache)):
        if path is not None and not isinstance(path, str | os.PathLike):
            raise BadOptionError(f"{setting} is a path, not {path!r}; in quotes if its name is a number")
    root = cache_root(cache)
    catalogue: Catalogue
    if source == "embedded":
        if data is not None or tagger != "auto":
            raise BadOptionError("data and tagger are settings of source=official; leave them out for the embedded one")
        catalogue = EmbeddedCatalogue(PRODUCTS if products is None else products)
        return _shop(_Key(catalogue, kind, None, root))
    catalogue = OfficialCatalogue(data, products, cache=root)
    if kind not in catalogue.goal_kinds:
        raise BadOptionError(f"there are no {kind} goals here: {catalogue.note}")
    return _shop(_Key(catalogue, kind, pick_tagger(tagger), root))


class _Key:
    """What a shop is made of, compared by what it holds: equal ones share a shop."""

    def __init__(self, catalogue: Catalogue, kind: GoalKind, tagger: Tagger | None, root: Path) -> None:
        self.catalogue, self.tagger, self.root = catalogue, tagger, root
        self.inputs = (catalogue.name, kind, catalogue.data_hash, tagger.name if tagger else OWN_NOUNS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and (self.inputs, self.root) == (other.inputs, other.root)

    def __hash__(self) -> int:
        return hash((self.inputs, self.root))


@lru_cache(maxsize=8)
def _shop(key: _Key) -> Shop:
    name, kind, data_hash, tagger = key.inputs

    def build(folder: Path) -> None:
        nouns = key.tagger.nouns if key.tagger else lambda title: ()
        with _told(name) as progress:
            build_store(folder, key.catalogue, kind, nouns, tagger, progress)

    place = key.root / "webshop" / f"{name}-{kind}-{data_hash}-{tagger}"
    return Shop(Store(shared_folder(place, lambda folder: is_sound(folder, name, kind, data_hash, tagger), build)))


@contextmanager
def _told(name: str) -> Iterator[Progress]:
    """Tells a person at a terminal how far a long build is; the line is gone when it is done."""
    from rich.console import Console

    start, status = time.monotonic(), Console(stderr=True).status("")

    def progress(done: int) -> None:
        seconds = time.monotonic() - start
        if seconds > _PATIENCE:
            status.start()
            status.update(f"building the shop {name}: {done:,} products, {done / seconds:,.0f}/s")

    try:
        yield progress
    finally:
        status.stop()
