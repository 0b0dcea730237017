"""The embedded catalogue: a web shop made here, any number of products, each a pure function of its number.

Products come in families of four to eight: one kind of product, one price list, one pool of attributes and of values for each
option. Members are alike but for what shoppers ask: each lacks some of the attributes and values, and half of them cost
at least forty dollars more than the others, which is above any price limit made for those. What a product lacks is
mentioned nowhere on its pages.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from random import Random

from envs_data.webshop import instructions, texts
from envs_data.webshop.numbers import (
    SPLITS,
    VERSION,
    asin,
    family_of,
    family_size,
    family_start,
    number_of,
    split_of,
)
from envs_data.webshop.options import POOLS
from envs_data.webshop.product import NO_PRICE, Entry, Goal, Instruction, Product
from envs_data.webshop.vocabulary import Attribute, Kind, headline
from envs_data.webshop.wares import KINDS

_SHARED = 2
"""Attributes that all of a family have."""
_VARYING = 5
"""Attributes that some of a family have."""
_MASKS = tuple(chosen for size in (2, 3, 4) for chosen in combinations(range(_VARYING), size))
"""Which of the varying attributes a member may have; no two members have the same."""
_GAP = 52
"""Dollars from a family's cheap members to its dear ones, before up to ten dollars of difference among either."""
_CENTS = (0.99, 0.99, 0.95, 0.49, 0.0, 0.88)
_WORD = re.compile(r"[a-z]+")

Draw = Callable[[], float]


class EmbeddedCatalogue:
    """Generated products and goals; the first n are the same in a catalogue of any size.

    Raises:
        ValueError: `products` is not positive.
    """

    def __init__(self, products: int = 1000) -> None:
        if products < 1:
            raise ValueError(f"a catalogue of {products} products sells nothing; ask for one or more")
        self.products = products
        self.name = f"embedded-{products}"
        self.splits = SPLITS

    @property
    def data_hash(self) -> str:
        return hashlib.sha256(f"aem web shop {VERSION} {self.products}".encode()).hexdigest()[:16]

    def entries(self) -> Iterator[Entry]:
        """All products in order of their numbers, made as they are asked for."""
        left = self.products
        for family in range(family_of(self.products - 1) + 1):
            members = family_entries(family)
            yield from members[:left]
            left -= len(members)

    def arrange(self, goals: list[Goal]) -> tuple[list[Goal], Mapping[str, range]]:
        """Test goals first, then dev, then train; families keep together, each split in an order of its own seed."""
        shares: dict[str, list[Goal]] = {split: [] for split in SPLITS}
        for goal in goals:
            shares[split_of(family_of(number_of(goal.asin)), len(KINDS))].append(goal)
        arranged: list[Goal] = []
        ranges = {}
        for split in reversed(SPLITS):
            share = shares[split]
            Random(f"web shop {VERSION} order {split}").shuffle(share)
            ranges[split] = range(len(arranged), len(arranged) + len(share))
            arranged += share
        return arranged, ranges

    def nouns(self, title: str) -> tuple[str, ...]:
        """The nouns of a generated title, in order: a word is one if it is a noun anywhere in the shop's own words."""
        return tuple([word for word in _WORD.findall(title.lower().replace("'s", "")) if word not in OTHER_WORDS])


def entry(number: int) -> Entry:
    """One product and its goals by its number, from 0."""
    family = family_of(number)
    return family_entries(family)[number - family_start(family)]


def family_entries(family: int) -> list[Entry]:
    """All members of a family."""
    random = Random(f"web shop {VERSION} family {family}")
    draw = random.random
    # Sections take turns within a round, and rounds differ in where they start.
    turn, position = divmod(family, len(KINDS))
    kind = KINDS[(position + 7 * turn) % len(KINDS)]
    size = family_size(family)
    pool = random.sample(kind.attributes, _SHARED + _VARYING)
    brands = random.sample(texts.BRANDS[kind.section], 3)
    offered = [(name, POOLS[values]) for name, values in kind.options if draw() < 0.85]
    masks = random.sample(_MASKS, size)
    low, high = kind.prices
    base = low + int(draw() * max(1, high - low - _GAP - 10) * 0.7)
    dear = random.sample(range(size), size // 2)
    members = []
    for member in range(size):
        varying = [pool[_SHARED + place] for place in masks[member]]
        prices = _prices(base + (_GAP if member in dear else 0), draw)
        options = _options(offered, draw)
        brand = brands[int(draw() * 3)]
        name = asin(family_start(family) + member)
        product = _product(name, kind, brand, pool[:_SHARED] + varying, options, prices, draw)
        first = int(draw() * len(instructions.SHAPES))
        second = (first + 1 + int(draw() * (len(instructions.SHAPES) - 1))) % len(instructions.SHAPES)
        human = tuple([_human(kind, pool[:_SHARED], varying, options, shape, draw) for shape in (first, second)])
        members.append(Entry(product, human, _synthetic(kind, pool[:_SHARED], varying, draw)))
    return members


def _shuffled(items: Sequence[Attribute], draw: Draw) -> list[Attribute]:
    """Faster than `Random.shuffle` on so few."""
    return [item for _, item in sorted([(draw(), item) for item in items], key=lambda pair: pair[0])]


def _prices(base: int, draw: Draw) -> tuple[float, ...]:
    """One price within ten dollars above `base`, seldom a range in there, very seldom none."""
    kind = draw()
    low = base + int(draw() * 8) + _CENTS[int(draw() * len(_CENTS))]
    if kind < 0.9:
        return (round(low, 2),)
    return (round(low, 2), round(low + 1 + int(draw() * 2), 2)) if kind < 0.995 else (NO_PRICE,)


def _options(offered: Sequence[tuple[str, tuple[str, ...]]], draw: Draw) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """About half of the values of each option, at least two and at most eight; now and then an option less."""
    options = []
    for name, pool in offered:
        if draw() < 0.06:
            continue
        values = [value for value in pool if draw() < 0.6]
        if len(values) < 2:
            start = int(draw() * (len(pool) - 1))
            values = [*pool[start : start + 2]]
        options.append((name, tuple(values[:8])))
    return tuple(options)


def _product(
    name: str,
    kind: Kind,
    brand: str,
    attributes: Sequence[Attribute],
    options: tuple[tuple[str, tuple[str, ...]], ...],
    prices: tuple[float, ...],
    draw: Draw,
) -> Product:
    """Spread the attributes over title, features and description: each is said somewhere, none of the others is."""
    order = _shuffled(attributes, draw)
    in_title = 1 + int(draw() * 2.5)
    described = 1 + int(draw() * 2)
    rest = order[in_title:]
    # The last ones are said in the description alone, the others on the features page.
    listed, told = rest[:-described] or order[:1], rest[-described:]
    use = int(draw() * len(kind.uses))
    uses = (kind.uses[use], kind.uses[use - 1], kind.uses[use - 2])
    about = int(draw() * len(kind.about))
    spare = [kind.about[about - 1], kind.about[about - 2]]
    return Product(
        asin=name,
        title=texts.title(kind, brand, order[:in_title], uses[2], draw),
        description=texts.description(kind, brand, told, uses, kind.about[about] + ".", draw),
        bullets=texts.bullets(kind, listed, spare[: max(1, 3 - len(listed))], draw),
        category=kind.section,
        query=kind.query,
        product_category=kind.path,
        prices=prices,
        price_tag=" to ".join([f"${price}" for price in prices]),
        options=options,
        attributes=tuple([attribute.phrase for attribute in attributes]),
    )


def _wanted(shared: Sequence[Attribute], varying: Sequence[Attribute], count: int, draw: Draw) -> list[Attribute]:
    """`count` attributes, at least one of them not common to the family."""
    first = int(draw() * len(varying))
    others = [*varying[:first], *varying[first + 1 :], *shared]
    return [varying[first], *_shuffled(others, draw)[: count - 1]]


def _human(
    kind: Kind,
    shared: Sequence[Attribute],
    varying: Sequence[Attribute],
    options: tuple[tuple[str, tuple[str, ...]], ...],
    shape: int,
    draw: Draw,
) -> Instruction:
    asked = _wanted(shared, varying, 1 + int(draw() * 2.6), draw)
    wishes = [(name, values[int(draw() * len(values))]) for name, values in options if draw() < 0.8]
    return instructions.human(kind, asked, wishes[:3], shape, draw)


def _synthetic(kind: Kind, shared: Sequence[Attribute], varying: Sequence[Attribute], draw: Draw) -> Instruction:
    return instructions.synthetic(kind, _wanted(shared, varying, 2 + int(draw() * 2), draw))


def vocabulary_texts() -> Iterator[str]:
    """Texts that together hold every word of titles, pages, options and instructions; prices and asins aside."""
    for kind in KINDS:
        yield from (*kind.leads, *(f"{before} {noun}" for before, noun in kind.wanted), kind.query, kind.path)
        yield from (opener % {"brand": "", "use": "", "other": ""} for opener in kind.openers)
        yield from (*kind.uses, *(headline(use) for use in kind.uses), *kind.about)
        for attribute in kind.attributes:
            yield from (attribute.phrase, attribute.with_article, attribute.in_title, *attribute.bullets)
            yield from kind.sentences[attribute.phrase]
    yield from (value for pool in POOLS.values() for value in pool)
    yield from instructions.all_words()
    yield from texts.all_words()


OTHER_WORDS = frozenset(
    """
    a an and by for of on the to with
    """.split()
)
"""Words of titles that are no nouns: adjectives, verbs, small words."""
