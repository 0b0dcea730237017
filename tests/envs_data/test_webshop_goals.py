"""Goals: price limits, human and synthetic instructions, weights; values by hand."""

from dataclasses import replace
from random import Random

import pytest

from envs_data.errors import ProductFileError
from envs_data.webshop import goals as goals_module
from envs_data.webshop.goals import NO_LIMIT, human_goals, make_goals, price_limit, synthetic_goals, weigh
from envs_data.webshop.product import Entry, Goal, Instruction, Product

PRODUCT = Product(
    asin="B000000001",
    title="Shampoo",
    description="",
    bullets=("",),
    category="beauty",
    query="shampoo",
    product_category="Beauty",
    prices=(25.0,),
    price_tag="$25.0",
    options=(("size", ("small", "large")), ("color", ("red", "blue", "green"))),
    attributes=("sulfate free",),
)


class Rigged(Random):
    """Remembers what it was to draw from; draws the first ones, larger first."""

    def sample(self, population: list[float], k: int) -> list[float]:  # type: ignore[override]
        self.seen = list(population)
        return self.seen[:k][::-1]


@pytest.mark.parametrize(
    ("price", "steps"),
    [
        (25.0, [30.0, 40.0, 50.0, 60.0]),
        (30.0, [40.0, 50.0, 60.0, 70.0]),  # strictly above
        (0.0, [10.0, 20.0, 30.0, 40.0]),
        (955.0, [960.0, 970.0, 980.0, 990.0]),
        (979.99, [980.0, 990.0]),
    ],
)
def test_price_limit_is_the_larger_of_two_of_the_next_four(price: float, steps: list[float]) -> None:
    rng = Rigged()
    assert price_limit(replace(PRODUCT, prices=(price,)), rng) == (
        steps[1],
        f", and price lower than {steps[1]:.2f} dollars",
    )
    assert rng.seen == steps


@pytest.mark.parametrize("price", [980.0, 990.0, 5000.0])
def test_no_limit_above_the_last_steps(price: float) -> None:
    assert price_limit(replace(PRODUCT, prices=(price,)), Rigged()) == (NO_LIMIT, "")


def test_limit_words_and_draw() -> None:
    limits = {price_limit(PRODUCT, Random(seed))[0] for seed in range(200)}
    assert limits == {40.0, 50.0, 60.0}  # the larger of two: never the first step
    ranged = replace(PRODUCT, prices=(10.0, 90.0))
    assert price_limit(ranged, Random(1))[0] > ranged.price


def test_human_goals_skip_those_without_attributes() -> None:
    wanted = (
        Instruction("..i need shampoo.", ("sulfate free",), ("large",)),
        Instruction("nothing asked", (), ()),
        Instruction("another one", ("sulfate free", "vegan"), ()),
    )
    first, second = human_goals(Entry(PRODUCT, wanted))
    assert first.instruction == f"i need shampoo, and price lower than {first.price_upper:.2f} dollars"
    assert (first.asin, first.kind, first.attributes, first.options) == (
        "B000000001",
        "human",
        ("sulfate free",),
        ("large",),
    )
    assert first.weight == second.weight == 1.0 and second.attributes == ("sulfate free", "vegan")
    # each limit is drawn by a seed of its own: what else there is changes nothing
    assert second.price_upper == price_limit(PRODUCT, Random("goal B000000001 2"))[0]
    assert human_goals(Entry(PRODUCT, (wanted[1], wanted[1], wanted[2]))) == [second]
    assert human_goals(Entry(replace(PRODUCT, prices=(990.0,)), wanted))[0].instruction == "i need shampoo"


def test_synthetic_goals_are_all_combinations_by_option_name() -> None:
    found = synthetic_goals(Entry(PRODUCT, (), Instruction("Find me shampoo", ("sulfate free",), ())))
    (limit,) = {goal.price_upper for goal in found}
    assert [goal.options for goal in found] == [
        (("color", color), ("size", size)) for color in ("red", "blue", "green") for size in ("small", "large")
    ]
    assert found[0].instruction == (
        f"Find me shampoo with color: red, and size: small, and price lower than {limit:.2f} dollars"
    )
    assert {goal.kind for goal in found} == {"synthetic"}


def test_synthetic_goals_without_options_or_attributes() -> None:
    wanted = Instruction("Find me shampoo.", ("sulfate free",), ())
    (plain,) = synthetic_goals(Entry(replace(PRODUCT, options=(), prices=(999.0,)), (), wanted))
    assert (plain.instruction, plain.options) == ("Find me shampoo.", ())  # the point stays, as in the original
    assert synthetic_goals(Entry(PRODUCT)) == []
    assert synthetic_goals(Entry(PRODUCT, (), replace(wanted, attributes=()))) == []
    assert synthetic_goals(Entry(replace(PRODUCT, options=(("size", ()), ("a", ("b",)))), (), wanted)) == []


def test_too_many_combinations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goals_module, "MOST_COMBINATIONS", 5)
    with pytest.raises(ProductFileError, match=r"B000000001.*6 goals"):
        synthetic_goals(Entry(PRODUCT, (), Instruction("x", ("a",), ())))


def test_weights_are_the_mean_rarity_of_the_attributes() -> None:
    def goal(*attributes: str) -> Goal:
        return Goal("A", "synthetic", "", attributes, (), 1e6)

    # a is asked for three times, b twice, c once
    weights = [goal.weight for goal in weigh([goal("a"), goal("a", "b"), goal("a", "b", "c")])]
    assert weights == pytest.approx([1 / 3, (1 / 3 + 1 / 2) / 2, (1 / 3 + 1 / 2 + 1) / 3])
    assert weigh([]) == []


def test_make_goals() -> None:
    entries = [
        Entry(PRODUCT, (Instruction("human", ("a",), ()),), Instruction("made", ("a",), ())),
        Entry(replace(PRODUCT, asin="B000000002", options=()), (), Instruction("made", ("a", "b"), ())),
    ]
    assert [(goal.asin, goal.weight) for goal in make_goals(entries, "human")] == [("B000000001", 1.0)]
    made = make_goals(entries, "synthetic")
    assert [goal.asin for goal in made] == ["B000000001"] * 6 + ["B000000002"]
    assert made[0].weight == pytest.approx(1 / 7) and made[6].weight == pytest.approx((1 / 7 + 1) / 2)
