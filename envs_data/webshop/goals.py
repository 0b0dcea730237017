"""Goals of the shop: a product's instructions, each with a price limit, as the original makes them.

The original draws price limits from an unseeded generator, so they differ in every process. Here each comes from a
seed of its own (asin and number of the instruction), whatever else is loaded.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from envs_data.errors import ProductFileError
from envs_data.webshop.product import Entry, Goal, GoalKind, Instruction, Product

NO_LIMIT = 1e6
"""Price limit in dollars that stands for none."""
PRICE_STEPS = tuple(10.0 * step for step in range(1, 100))
"""Dollars: the limits there are."""
_NEAREST = 4
MOST_COMBINATIONS = 1_000_000
"""Synthetic goals of one product; options that combine to more are refused."""


def price_limit(product: Product, rng: Random) -> tuple[float, str]:
    """(highest price in dollars, its words in the instruction): the larger of two of the four steps above the price.

    With fewer than two steps above it (from 980 dollars on) there is no limit: `NO_LIMIT` and no words.
    """
    price = product.price
    above = [step for step in PRICE_STEPS if step > price][:_NEAREST]
    if len(above) < 2:
        return NO_LIMIT, ""
    limit = max(rng.sample(above, 2))
    return limit, f", and price lower than {limit:.2f} dollars"


def human_goals(entry: Entry) -> list[Goal]:
    """One goal of every human instruction that asks for attributes; the others are skipped."""
    return [_human_goal(entry.product, n, wanted) for n, wanted in enumerate(entry.human) if wanted.attributes]


def _human_goal(product: Product, number: int, wanted: Instruction) -> Goal:
    limit, words = price_limit(product, Random(f"goal {product.asin} {number}"))
    text = wanted.text.strip(".") + words
    return Goal(product.asin, "human", text, wanted.attributes, wanted.options, limit)


def synthetic_goals(entry: Entry) -> list[Goal]:
    """One goal of every combination of options, options in order of their names; one price limit for all of them.

    None where the product has no such instruction, where that asks for no attributes (no weight can be given then), or
    where one of the options has no values. `goal_weight` says what they weigh.
    """
    wanted, product = entry.synthetic, entry.product
    if wanted is None or not wanted.attributes:
        return []
    limit, words = price_limit(product, Random(f"goal {product.asin} synthetic"))
    names, values = zip(*sorted(product.options)) if product.options else ((), ())
    if (count := math.prod(map(len, values))) > MOST_COMBINATIONS:
        raise ProductFileError(f"product {product.asin}: its options combine to {count} goals; remove some")
    goals = []
    for chosen in itertools.product(*values):
        options = tuple(zip(names, chosen))
        said = ", and ".join(f"{name}: {value}" for name, value in options)
        text = wanted.text + (f" with {said}" if said else "") + words
        goals.append(Goal(product.asin, "synthetic", text, wanted.attributes, options, limit))
    return goals


def goal_weight(attributes: Sequence[str], asked: Mapping[str, int]) -> float:
    """Of a synthetic goal: the mean, over its attributes, of 1 / (goals that ask for it, by `asked`).

    Goals of rare attributes are drawn more often. Human goals all weigh 1.
    """
    return sum(1 / asked[attribute] for attribute in attributes) / len(attributes)


def weigh(goals: list[Goal]) -> list[Goal]:
    """Synthetic goals with their weights."""
    asked = Counter(attribute for goal in goals for attribute in goal.attributes)
    return [replace(goal, weight=goal_weight(goal.attributes, asked)) for goal in goals]


def make_goals(entries: Iterable[Entry], kind: GoalKind) -> list[Goal]:
    """All goals of one kind, in the order of the entries, weighed."""
    if kind == "human":
        return [goal for entry in entries for goal in human_goals(entry)]
    return weigh([goal for entry in entries for goal in synthetic_goals(entry)])
