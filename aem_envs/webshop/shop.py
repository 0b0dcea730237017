"""The shop as all environments of a process share it: products, searches, goals; read from a store on disk."""

from collections.abc import Sequence
from functools import lru_cache
from random import Random

from aem_envs.webshop.session import item_actions
from aem_envs.webshop.store import Store
from aem_envs.webshop.view import BUY, NO_RATING, SUB_PAGES, spaced
from envs_data.webshop.product import Product

HITS = 50
"""Results a search gives at most."""
PRODUCTS = 4096
"""Products, cards and item pages kept per process (some 3 kB each)."""


class Card:
    """A product as results show it."""

    __slots__ = ("action", "asin", "key", "text")

    def __init__(self, product: Product) -> None:
        self.asin = product.asin
        self.key = product.asin.lower()
        """How a click names it."""
        self.action = f"click[{self.key}]"
        self.text = spaced([product.asin, product.title, product.price_tag])


class ItemPage:
    """The part of an item's page that no episode changes."""

    __slots__ = ("actions", "option_of", "text")

    def __init__(self, product: Product) -> None:
        self.option_of: dict[str, str] = {}
        """Option value → option name; of equal values the last name."""
        texts: list[str] = []
        for name, values in product.options:
            texts += [name, *values]
            self.option_of.update((value, name) for value in values if value)
        texts += [product.title, f"Price: {product.price_tag}", NO_RATING, *map(str.capitalize, SUB_PAGES), BUY]
        self.text = spaced(texts)
        """As observation mode `text` shows it, after the "< Prev" button."""
        self.actions = item_actions(self)


class Shop:
    """Products by doc number, their rank by asin. Nothing of it changes but caches."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.product = lru_cache(maxsize=PRODUCTS)(store.product)
        self.card = lru_cache(maxsize=PRODUCTS)(self._card)
        self.item = lru_cache(maxsize=PRODUCTS)(self._item)

    def search(self, words: str, salt: str) -> Sequence[int]:
        """Doc numbers that a search finds, best first.

        The original's prefixes work: `<r>` gives products at random (seeded by `salt` and the words), `<c> section`
        and `<q> query` all products of a section or a query, in the catalogue's order.
        """
        prefix, _, rest = words.partition(" ")
        if prefix == "<r>":
            population = range(self.store.products)
            return Random(f"{salt} {words}").sample(population, min(HITS, len(population)))
        if prefix == "<c>":
            return self.store.of_section(rest.partition(" ")[0].strip())
        if prefix == "<q>":
            return self.store.of_query(rest.strip())
        return self.store.index.top(words, HITS)

    def _card(self, doc: int) -> Card:
        return Card(self.product(doc))

    def _item(self, doc: int) -> ItemPage:
        return ItemPage(self.product(doc))
