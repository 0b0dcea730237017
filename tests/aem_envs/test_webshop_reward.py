"""The reward, against values worked out by hand, for every branch of the formula."""

from dataclasses import replace
from typing import Any

import pytest

from aem_envs.webshop.reward import (
    COLOURS,
    alike,
    attribute_matches,
    option_matches,
    plain_colour,
    score,
    type_score,
)
from envs_data.webshop.product import Goal, Product

SHOE = Product(
    asin="B000000001",
    title="Norvale Running Shoe, Breathable Mesh",
    description="A shoe for LONG roads.",
    bullets=("Rubber sole", "Machine washable"),
    category="fashion",
    query="running shoes",
    product_category="Clothing › Women › Shoes › Running",
    prices=(30.0,),
    price_tag="$30.0",
    options=(("color", ("navy", "red")), ("size", ("7", "8"))),
    attributes=("non slip", "arch support"),
)
GOAL = Goal("B000000001", "human", "…", ("non slip", "rubber sole"), ("navy", "8"), 40.0)
NOUNS = ("norvale", "running", "shoe", "mesh")


def worth(bought: Product = SHOE, chosen: Any = ("navy", "8"), goal: Goal = GOAL, nouns: Any = NOUNS) -> float:
    return score(bought, chosen, goal, SHOE, nouns, NOUNS).reward


def test_the_wanted_product_with_the_wanted_options_is_worth_one():
    assert worth() == 1.0


@pytest.mark.parametrize(
    ("chosen", "by_hand"),
    [
        (("navy",), 4 / 5),  # 2 attributes, 1 of 2 options, price: 4 of 2 + 2 + 1
        ((), 3 / 5),
        (("red", "7"), 3 / 5),
        (("8", "navy", "red"), 1.0),  # more than was asked for does no harm
    ],
)
def test_each_option_counts_one_part(chosen, by_hand):
    assert worth(chosen=chosen) == by_hand


def test_attributes_and_price_count_one_part_each():
    other = replace(SHOE, attributes=("arch support",), bullets=("Leather sole",))
    assert worth(bought=other) == 3 / 5, "neither attribute: 0 + 2 + 1"
    assert worth(bought=replace(SHOE, prices=(40.0,))) == 1.0, "the limit itself is within it"
    assert worth(bought=replace(SHOE, prices=(40.01,))) == 4 / 5


def test_a_goal_without_options_has_fewer_parts():
    goal = replace(GOAL, options=())
    assert worth(goal=goal, chosen=()) == 1.0
    assert worth(goal=goal, bought=replace(SHOE, prices=(50.0,))) == 2 / 3


@pytest.mark.parametrize(
    ("bought_nouns", "same_query", "same_path", "r_type", "title_score"),
    [
        (("norvale", "running", "shoe", "mesh"), True, True, 1.0, 1.0),
        (("shoe",), False, False, 1.0, 0.25),  # above 0.2: the right kind by its title alone
        ((), True, True, 0.0, 0.0),  # nothing shared: nothing, even with the same query
        (("hat",), True, True, 0.0, 0.0),
    ],
)
def test_type_by_query_categories_and_title(bought_nouns, same_query, same_path, r_type, title_score):
    bought = replace(
        SHOE,
        query=SHOE.query if same_query else "hats",
        product_category=SHOE.product_category if same_path else "Home › Hats",
    )
    assert type_score(bought, SHOE, bought_nouns, NOUNS) == (r_type, title_score)


@pytest.mark.parametrize(
    ("shared", "of", "query", "r_type"),
    [
        (1, 5, "running shoes", 1.0),  # 0.2, the right kind by its query
        (1, 5, "hats", 0.5),  # 0.2 is not above 0.2: another kind
        (1, 10, "hats", 0.5),  # 0.1 is not below 0.1
        (1, 11, "hats", 0.1),
        (1, 11, "running shoes", 0.1),  # a poor title outweighs the query
    ],
)
def test_thresholds_of_the_title_score(shared, of, query, r_type):
    wanted = tuple(f"noun{n}" for n in range(of))
    bought = replace(SHOE, query=query, product_category="Home › Hats")
    assert type_score(bought, SHOE, wanted[:shared], wanted) == (r_type, shared / of)


def test_two_shared_categories_make_the_same_kind():
    one = replace(SHOE, query="hats", product_category="Clothing › Hats")
    two = replace(SHOE, query="hats", product_category="Women › Clothing")
    wanted = ("a", "b", "c", "d", "e")
    assert type_score(one, SHOE, ("a",), wanted) == (0.5, 0.2)
    assert type_score(two, SHOE, ("a",), wanted) == (1.0, 0.2), "in any order and place"


def test_a_title_without_nouns_scores_a_fifth():
    assert type_score(SHOE, SHOE, NOUNS, ()) == (1.0, 0.2)
    assert type_score(replace(SHOE, query="x", product_category="y"), SHOE, NOUNS, ()) == (0.5, 0.2)


def test_repeated_nouns_count_in_the_wanted_title_only():
    wanted = ("shoe", "shoe", "mesh", "lace")
    assert type_score(SHOE, SHOE, ("shoe", "shoe", "shoe"), wanted)[1] == 1 / 4


def test_the_type_scales_the_whole_reward():
    hat = replace(SHOE, query="hats", product_category="Home › Hats", prices=(99.0,))
    wanted = ("a", "b", "c", "d", "e")
    assert score(hat, ("navy", "8"), GOAL, SHOE, ("a",), wanted).reward == pytest.approx(0.5 * 4 / 5)


@pytest.mark.parametrize(
    ("phrase", "found"),
    [
        ("non slip", True),
        ("slip non", True),  # word order does not matter
        ("arch", True),  # its words are among the attribute's
        ("non slip grip", True),  # the attribute's words are among its own
        ("rubber sole", True),  # not an attribute, but a bullet, in any case
        ("breathable", True),  # in the title
        ("long roads", True),  # in the description
        ("sole machine", True),  # bullets are one text, joined by spaces
        ("arch supporter", True),  # nearly: {arch} shared; 2·12 / (12 + 14) = 92 %
        ("waterproof", False),
    ],
)
def test_an_attribute_is_found_by_likeness_or_in_the_texts(phrase, found):
    assert attribute_matches(SHOE, [phrase]) == found


def test_likeness_is_above_85_after_rounding():
    # one word of n letters with one letter changed: 2(n - 1) / 2n
    assert not alike("abcdef", "abcdex")  # 83 %
    assert alike("abcdefg", "abcdefx")  # 85.7 %, rounded 86
    assert not alike("abcdefghijk", "abcdefghijkxxxx")  # 22 of 26: 84.6 %, rounded 85
    assert not alike("", "") and not alike("red", "")


def test_what_is_no_letter_or_digit_does_not_count():
    assert alike("Non-Slip!", "non slip")
    assert alike("caf\u00e9", "caf"), "characters 128 to 255 are dropped"


@pytest.mark.parametrize(
    ("value", "colour"),
    [
        ("navy blue", "blue"),  # the alphabet decides, not the place
        ("rose gold", "gold"),
        ("light grey heather", "grey"),
        ("infrared", "red"),  # substrings count
        ("xl", "xl"),
        ("Blue", "Blue"),  # values are lower case by then
    ],
)
def test_colours_stand_for_values(value, colour):
    assert plain_colour(value) == colour


def test_the_colours_are_in_order():
    assert sorted(COLOURS) == COLOURS and len(set(COLOURS)) == len(COLOURS) == 102


@pytest.mark.parametrize(
    ("chosen", "wanted", "matches"),
    [
        (["navy blue"], ["sky blue"], 1),  # both are blue
        (["dark blue"], ["dark green"], 0),
        (["10 ounce (pack of 2)"], ["10 ounce (pack of 2)"], 1),
        (["10 ounce"], ["10 ounce (pack of 2)"], 1),  # a subset of its words
        (["8"], ["7"], 0),
        (["8"], ["8", "8"], 2),  # each wanted option is looked for by itself
        ([], ["8"], 0),
        # synthetic goals: pairs are compared as they print, "('size', '8')"
        (["8"], [("size", "8")], 1),
        (["large"], [("size", "x-large")], 1),
        (["navy blue"], [("color", "navy blue")], 1),  # not one plain colour: compared in words, "blue" among them
        (["sky blue"], [("color", "blue")], 1),  # a plain colour
        (["red"], [("color", "navy blue")], 0),
    ],
)
def test_options(chosen, wanted, matches):
    assert option_matches(chosen, wanted) == matches


def test_parts_are_reported():
    found = score(SHOE, ["navy"], GOAL, SHOE, NOUNS, NOUNS)
    assert (found.r_type, found.title_score, found.attributes, found.options, found.price) == (1.0, 1.0, 2, 1, True)
