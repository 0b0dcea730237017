"""The embedded catalogue: a web shop made here, any number of products, each a pure function of its number.

Products come in families of four to eight: one kind of product, one price list, one pool of attributes and of values
for each option. Members are alike but for what shoppers ask. They come in pairs: a cheap one, and a twin that has all
its attributes and one more, for at least forty dollars more, which is above any price limit made for the cheap one.
Shoppers who are sent for the dear one ask for the attribute that only it has. What a product lacks is mentioned nowhere
on its pages.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from random import Random

from envs_data.webshop import instructions, texts
from envs_data.webshop.manifest import MANIFEST
from envs_data.webshop.numbers import (
    SPLITS,
    VERSION,
    asin,
    family_of,
    family_size,
    family_start,
    kind_of,
    number_of,
    split_of,
)
from envs_data.webshop.options import POOLS
from envs_data.webshop.product import NO_PRICE, Entry, Goal, Product
from envs_data.webshop.vocabulary import NOT_NOUNS, Attribute, Kind, headline
from envs_data.webshop.wares import KINDS

_SHARED = 2
"""Attributes that all of a family have."""
_VARYING = 5
"""Attributes that some of a family have."""
_PLACES = tuple(combinations(range(_VARYING), 2))
"""Which of the varying attributes a cheap member has; no two of them have the same."""
_GAP = 52
"""Dollars from a family's cheap members to its dear ones, before up to ten dollars of difference among either."""
_CENTS = (0.99, 0.99, 0.95, 0.49, 0.0, 0.88)
_WORD = re.compile(r"[a-z]+(?!')\b(?<!'s)")

Draw = Callable[[], float]
Options = tuple[tuple[str, tuple[str, ...]], ...]


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
        return hashlib.sha256(f"embedded web shop {VERSION} {MANIFEST} {self.products}".encode()).hexdigest()[:16]

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
        """The nouns of a generated title, in order: all words but those that the shop knows to be none."""
        return tuple([word for word in _WORD.findall(title.lower()) if word not in NOT_NOUNS])


def entry(number: int) -> Entry:
    """One product and its goals by its number, from 0."""
    family = family_of(number)
    return family_entries(family)[number - family_start(family)]


def family_entries(family: int) -> list[Entry]:
    """All members of a family, cheap ones and their dear twins by turns."""
    random = Random(f"web shop {VERSION} family {family}")
    draw = random.random
    kind = KINDS[kind_of(family, len(KINDS))]
    pool = random.sample(kind.attributes, _SHARED + _VARYING)
    shared, varying = pool[:_SHARED], pool[_SHARED:]
    brands = random.sample(texts.BRANDS[kind.section], 3)
    offered = [(name, POOLS[values]) for name, values in kind.options if draw() < 0.85]
    low, high = kind.prices
    base = low + int(draw() * max(1, high - low - _GAP - 10) * 0.7)
    size, start = family_size(family), family_start(family)
    members: list[Entry] = []
    for places in random.sample(_PLACES, (size + 1) // 2):
        own = [varying[place] for place in places]
        options = _options(offered, (), draw)
        extra = [attribute for attribute in varying if attribute not in own][int(draw() * (_VARYING - len(own)))]
        for price, marks, choice in (
            (base, own, options),
            (base + _GAP, [extra, *own], _options(offered, options, draw)),
        ):
            name, brand = asin(start + len(members)), brands[int(draw() * len(brands))]
            product = _product(name, kind, brand, [*shared, *marks], choice, _prices(price, draw), draw)
            members.append(_entry(product, kind, shared, marks, draw))
    return members[:size]


def _shuffled(items: Sequence[Attribute], draw: Draw) -> list[Attribute]:
    """Faster than `Random.shuffle` on so few."""
    return sorted(items, key=lambda _: draw())


def _prices(base: int, draw: Draw) -> tuple[float, ...]:
    """One price within ten dollars above `base`, seldom a range in there, very seldom none."""
    kind = draw()
    low = base + int(draw() * 8) + _CENTS[int(draw() * len(_CENTS))]
    if kind < 0.9:
        return (round(low, 2),)
    return (round(low, 2), round(low + 1 + int(draw() * 2), 2)) if kind < 0.995 else (NO_PRICE,)


def _options(offered: Sequence[tuple[str, tuple[str, ...]]], twin: Options, draw: Draw) -> Options:
    """About half of the values of each option and all that the twin has, two to eight; now and then an option less."""
    has = dict(twin)
    options = []
    for name, pool in offered:
        if draw() < 0.06:
            continue
        kept = has.get(name, ())
        chance = 0.2 if kept else 0.5
        values = [value for value in pool if draw() < chance or value in kept]
        if len(values) < 2:
            first = int(draw() * (len(pool) - 1))
            values = [*pool[first : first + 2]]
        options.append((name, tuple(values[:8])))
    return tuple(options)


def _product(
    name: str,
    kind: Kind,
    brand: str,
    attributes: Sequence[Attribute],
    options: Options,
    prices: tuple[float, ...],
    draw: Draw,
) -> Product:
    """Spread the attributes over title, features and description: each is said somewhere, none of the others is."""
    order = _shuffled(attributes, draw)
    in_title = 1 + int(draw() * 1.6)
    described = 1 if draw() < 0.6 else 0
    rest = order[in_title:]
    # The last ones are said in the description alone, the others on the features page.
    listed, told = rest[: len(rest) - described], rest[len(rest) - described :]
    use = int(draw() * len(kind.uses))
    uses = (kind.uses[use], kind.uses[use - 1], kind.uses[use - 2])
    about = int(draw() * len(kind.about))
    spare = [kind.about[about - 1], kind.about[about - 2]]
    return Product(
        asin=name,
        title=texts.title(kind, brand, order[:in_title], uses[2], draw),
        description=texts.description(kind, brand, told, uses, kind.about[about] + ".", draw),
        bullets=texts.bullets(kind, listed, spare[: max(0, 3 - len(listed))], draw),
        category=kind.section,
        query=kind.query,
        product_category=kind.path,
        prices=prices,
        price_tag=" to ".join([f"${price}" for price in prices]),
        options=options,
        attributes=tuple([attribute.phrase for attribute in attributes]),
    )


def _entry(product: Product, kind: Kind, shared: Sequence[Attribute], marks: Sequence[Attribute], draw: Draw) -> Entry:
    """The product with two instructions in the manner of people, of different shapes, and a synthetic one."""
    shapes = len(instructions.SHAPES)
    shape = int(draw() * shapes)
    human = []
    for turn in (shape, (shape + 1 + int(draw() * (shapes - 1))) % shapes):
        wishes = [(name, values[int(draw() * len(values))]) for name, values in product.options if draw() < 0.8]
        asked = _wanted(shared, marks, 1 + int(0.4 + draw() * 2.4), draw)
        human.append(instructions.human(kind, asked, wishes, turn, draw))
    asked = _wanted(shared, marks, 2 + int(draw() * 2), draw)
    return Entry(product, tuple(human), instructions.synthetic(kind, asked))


def _wanted(shared: Sequence[Attribute], marks: Sequence[Attribute], count: int, draw: Draw) -> list[Attribute]:
    """`count` attributes in any order: what sets the product apart first, what all of its family have last.

    A dear product's first mark is what its cheap twin lacks: no wish for it must fit the twin.
    """
    apart = [*marks[:1], *_shuffled(marks[1:], draw)] if len(marks) > 2 else _shuffled(marks, draw)
    common = shared if draw() < 0.5 else shared[::-1]
    return _shuffled([*apart, *common][:count], draw)


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
