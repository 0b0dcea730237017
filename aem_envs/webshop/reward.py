"""The reward of a purchase, exactly the original's.

    r = r_type · (n_att + n_opt + [price ≤ price_upper]) / (|attributes| + |options| + 1)

Source: WebShop (arXiv 2207.01206), appendix, and its program, whose odd corners count as part of the definition.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz.fuzz import token_set_ratio
from rapidfuzz.utils import default_process

from envs_data.webshop.product import Goal, Product

ENOUGH = 85
"""Two phrases match if their token set ratio, rounded, is above this."""
NO_NOUNS = 0.2
"""Title score where the goal's title has no noun."""

COLOURS = (  # noqa: SIM905 (a table of words reads better than a list of literals)
    "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel "
    "camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry "
    "cream crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green "
    "grey heather indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot "
    "midnight mint mocha multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple "
    "rainbow red rose royal rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan "
    "taupe teal tiger turquoise violet walnut wheat white wine yellow"
).split()
"""In the original's order: of the colours that a value holds as a substring, the first here stands for it."""

_LATIN_1 = dict.fromkeys(range(128, 256))


@dataclass(frozen=True, slots=True)
class Score:
    """A reward and what it is made of."""

    reward: float
    """In [0, 1]; 1 is success."""
    r_type: float
    """1, 0.5, 0.1 or 0: whether it is the kind of thing that was wanted."""
    title_score: float
    """Share of the wanted title's nouns that the bought title has."""
    attributes: int
    """Wanted attributes that the product has."""
    options: int
    """Wanted options that were chosen."""
    price: bool
    """Whether the price is within the limit."""


def score(
    bought: Product,
    chosen: Sequence[str],
    goal: Goal,
    wanted: Product,
    bought_nouns: Iterable[str],
    wanted_nouns: Sequence[str],
) -> Score:
    """What buying `bought` with the option values `chosen` is worth for `goal`, whose own product is `wanted`.

    The nouns are those of the two titles, lower case; the wanted ones with repeats.
    """
    r_type, title_score = type_score(bought, wanted, bought_nouns, wanted_nouns)
    n_attributes = attribute_matches(bought, goal.attributes)
    n_options = option_matches(chosen, goal.options)
    price = bought.price <= goal.price_upper
    parts = len(goal.attributes) + len(goal.options) + 1
    return Score(
        r_type * ((n_attributes + n_options + price) / parts), r_type, title_score, n_attributes, n_options, price
    )


def type_score(
    bought: Product, wanted: Product, bought_nouns: Iterable[str], wanted_nouns: Sequence[str]
) -> tuple[float, float]:
    """(r_type, title score). The same query, two shared categories or a title score above 0.2: the right kind."""
    shared = len(set(bought_nouns) & set(wanted_nouns))
    title_score = shared / len(wanted_nouns) if wanted_nouns else NO_NOUNS
    right = bought.query == wanted.query or len(_path(bought) & _path(wanted)) >= 2 or title_score > 0.2
    if title_score == 0:
        return 0.0, title_score
    if title_score < 0.1:
        return 0.1, title_score
    return (1.0 if right else 0.5), title_score


def attribute_matches(product: Product, wanted: Iterable[str]) -> int:
    """How many of the wanted attributes the product has: like one of its own, or word for word in its texts."""
    title, bullets, description = product.title.lower(), " ".join(product.bullets).lower(), product.description.lower()
    return sum(
        any(alike(own, phrase) for own in product.attributes)
        or phrase in title
        or phrase in bullets
        or phrase in description
        for phrase in wanted
    )


def option_matches(chosen: Iterable[str], wanted: Iterable[str | tuple[str, str]]) -> int:
    """How many of the wanted options are like one of those chosen, colours taken for their plain names."""
    values = [plain_colour(value) for value in chosen]
    return sum(any(alike(value, option) for value in values) for option in map(_wanted_option, wanted))


def alike(one: str, other: str) -> bool:
    """Whether two phrases match: one's words among the other's, or nearly so."""
    return round(token_set_ratio(_words(one), _words(other))) > ENOUGH


def plain_colour(value: str) -> str:
    """The colour that `value` holds ("navy blue stripes" → "blue"), or `value` itself."""
    return next((colour for colour in COLOURS if colour in value), value)


def _wanted_option(option: str | tuple[str, str]) -> str:
    """A (name, value) pair is compared by its printed form, as in the original; a plain colour stands for itself."""
    if isinstance(option, str):
        return plain_colour(option)
    return next((colour for colour in COLOURS if colour in option), str(option))


def _words(phrase: str) -> str:
    """Lower case, letters and digits only; characters 128 to 255 are dropped, not replaced."""
    return default_process(phrase.translate(_LATIN_1))


def _path(product: Product) -> set[str]:
    return {part.strip() for part in product.product_category.split("›")}
