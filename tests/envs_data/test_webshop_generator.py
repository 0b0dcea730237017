"""The embedded catalogue: fixed, winnable, and hard enough that one has to read."""

import re
import subprocess
import sys
from collections import Counter
from itertools import combinations, islice, pairwise

import pytest

from aem_envs.webshop.reward import alike, option_matches, score
from envs_data.errors import UnknownTaskError
from envs_data.webshop.generator import EmbeddedCatalogue, entry, family_entries, vocabulary_texts
from envs_data.webshop.goals import make_goals
from envs_data.webshop.instructions import OPTION_NAMES, SHAPES
from envs_data.webshop.manifest import MANIFEST, MANIFEST_PRODUCTS, content_hash
from envs_data.webshop.numbers import asin, family_of, family_size, family_start, number_of, split_of
from envs_data.webshop.options import POOLS
from envs_data.webshop.product import NO_PRICE, Catalogue, Entry, Product
from envs_data.webshop.wares import KINDS

MANY = 6000
SECTIONS = {"beauty", "garden", "grocery", "electronics", "fashion"}


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return list(EmbeddedCatalogue(MANY).entries())


def texts_of(product: Product) -> str:
    return "\n".join((product.title, product.description, *product.bullets)).lower()


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def family(one: Entry) -> int:
    return family_of(number_of(one.product.asin))


def test_it_is_a_catalogue() -> None:
    catalogue: Catalogue = EmbeddedCatalogue()
    assert (catalogue.name, catalogue.splits) == ("embedded-1000", ("train", "dev", "test"))
    assert re.fullmatch("[0-9a-f]{16}", catalogue.data_hash)
    assert catalogue.data_hash == EmbeddedCatalogue(1000).data_hash != EmbeddedCatalogue(1001).data_hash


def test_the_first_thousand_are_fixed() -> None:
    first = islice(EmbeddedCatalogue(MANIFEST_PRODUCTS).entries(), MANIFEST_PRODUCTS)
    assert content_hash(first) == MANIFEST, "products or splits changed: put the new hash into manifest.py"


def test_products_depend_on_their_number_alone(entries: list[Entry]) -> None:
    assert len(entries) == MANY
    assert list(EmbeddedCatalogue(57).entries()) == entries[:57]
    assert all(entry(number) == entries[number] for number in (999, 0, 4321, 17))


def test_another_process_makes_the_same() -> None:
    code = (
        "from envs_data.webshop.generator import *; from envs_data.webshop.manifest import *;"
        "print(content_hash(EmbeddedCatalogue(300).entries()))"
    )
    for seed in ("1", "2"):
        made = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert made.stdout.strip() == content_hash(EmbeddedCatalogue(300).entries()), made.stderr


def test_a_catalogue_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="ask for one or more"):
        EmbeddedCatalogue(0)


def test_asins_are_unique_and_scrambled() -> None:
    numbers = [*range(20_000), *range(10**8 - 20_000, 10**8)]
    names = [asin(number) for number in numbers]
    assert len(set(names)) == len(numbers)
    assert all(re.fullmatch("B0[0-9A-Z]{8}", name) for name in names)
    assert [number_of(name) for name in names] == numbers
    in_order = sorted(range(20_000), key=asin)
    neighbours = sum(family_of(one) == family_of(other) for one, other in pairwise(in_order))
    assert neighbours < 20


@pytest.mark.parametrize("name", ["", "B0", "B0123456789", "b012345678", "B0éééééééé", "X012345678"])
def test_names_of_others_are_refused(name: str) -> None:
    with pytest.raises(UnknownTaskError, match="no product of the embedded catalogue"):
        number_of(name)


def test_families_tile_the_numbers() -> None:
    for number in range(500):
        of = family_of(number)
        assert family_start(of) <= number < family_start(of) + family_size(of)
        assert 4 <= family_size(of) <= 8


def test_the_shop_is_broad(entries: list[Entry]) -> None:
    assert len(KINDS) >= 60 and {kind.section for kind in KINDS} == SECTIONS
    assert len({kind.query for kind in KINDS}) == len(KINDS) == len({kind.path for kind in KINDS})
    assert Counter(one.product.category for one in entries).keys() == SECTIONS
    for kind in KINDS:
        assert 3 <= len(kind.path.split(" › ")) <= 4
        assert len(kind.leads) >= 1 and len(kind.wanted) >= 2 and len(kind.uses) >= 3 and len(kind.about) >= 3
        assert {name for name, _ in kind.options} <= set(OPTION_NAMES)


def test_products_are_well_formed(entries: list[Entry]) -> None:
    for one in entries:
        product = one.product
        assert (
            4 <= len(product.bullets) <= 5 and 2 <= product.description.count(".") + product.description.count("?") <= 5
        )
        assert 4 <= len(product.attributes) == len(set(product.attributes)) <= 5
        assert len(product.options) <= 3
        for name, values in product.options:
            assert name in OPTION_NAMES and 2 <= len(values) <= 8 and len(set(values)) == len(values)
            assert all(value == value.lower().strip() for value in values)
        assert product.price_tag == " to ".join(f"${price}" for price in product.prices)
        assert 1 <= len(product.prices) <= 2 and all(5 <= price <= 400 for price in product.prices)
    shares = Counter(len(one.product.prices) for one in entries)
    assert 0.05 < shares[2] / MANY < 0.12
    assert 0 < sum(one.product.prices == (NO_PRICE,) for one in entries) / MANY < 0.02
    assert 0.01 < sum(not one.product.options for one in entries) / MANY < 0.2


def test_texts_are_clean(entries: list[Entry]) -> None:
    for one in entries:
        product = one.product
        said = [instruction.text for instruction in one.human] + [one.synthetic.text if one.synthetic else ""]
        for text in (product.title, product.description, *product.bullets, *said):
            assert text == text.strip() and not re.search(r"\s\s|[{}\[\]%]|\.\.|,,| [,.]", text), text
            assert not re.search(r"\b(an?|the|is|are|with|for|in|and|of|to) \1\b", text, re.I), text
            assert not re.search(r"\ba [aeio8]|\ban [^aeiouhl]", text, re.I), text
        assert all(text == text.lower() for text in said[:2])
        assert all(line[0].isupper() and line[-1] in ".?" for line in (product.description, *product.bullets))


def test_every_attribute_can_be_read_and_no_other(entries: list[Entry]) -> None:
    pools = {kind.query: [attribute.phrase for attribute in kind.attributes] for kind in KINDS}
    places = Counter()
    for one in entries:
        product = one.product
        text = texts_of(product)
        for phrase in pools[product.query]:
            assert (phrase in text) == (phrase in product.attributes), (product.asin, phrase)
        places.update(phrase in product.title.lower() for phrase in product.attributes)
    assert 0.2 < places[True] / places.total() < 0.5


def test_attributes_of_a_kind_are_told_apart() -> None:
    for kind in KINDS:
        assert len(kind.attributes) >= 9
        for one, other in combinations(kind.attributes, 2):
            assert not alike(one.phrase, other.phrase), (kind.name, one.phrase, other.phrase)


def test_values_of_a_kind_are_told_apart() -> None:
    for kind in KINDS:
        offered = [(name, value) for name, pool in kind.options for value in POOLS[pool]]
        for wanted in offered:
            for name, value in offered:
                for asked in (wanted[1], wanted):
                    assert option_matches([value], [asked]) == ((name, value) == wanted), (kind.name, value, asked)


def test_goals_can_be_won(entries: list[Entry]) -> None:
    catalogue = EmbeddedCatalogue(MANY)
    products = {one.product.asin: one.product for one in entries}
    for kind in ("human", "synthetic"):
        for goal in make_goals(entries[:500], kind):
            product = products[goal.asin]
            assert 1 <= len(goal.attributes) <= 3 and set(goal.attributes) <= set(product.attributes)
            values = {value for _, group in product.options for value in group}
            chosen = [option if isinstance(option, str) else option[1] for option in goal.options]
            assert set(chosen) <= values
            nouns = catalogue.nouns(product.title)
            assert nouns and score(product, chosen, goal, product, nouns, nouns).reward == 1


def test_instructions_say_what_they_ask_for(entries: list[Entry]) -> None:
    assert len(SHAPES) >= 25
    for one in entries:
        assert len(one.human) == 2 and one.synthetic is not None and not one.synthetic.options
        assert one.human[0].text != one.human[1].text
        assert one.synthetic.text.startswith("Find me ") and one.synthetic.text.endswith(one.product.query)
        assert 2 <= len(one.synthetic.attributes) <= 3
        for instruction in (*one.human, one.synthetic):
            assert all(said in instruction.text for said in (*instruction.attributes, *instruction.options))
            assert len(instruction.options) <= 3 and "price" not in instruction.text
    asked = Counter(len(instruction.options) for one in entries for instruction in one.human)
    assert all(asked[count] > 0.08 * 2 * MANY for count in (0, 1, 2))


def test_members_of_a_family_differ(entries: list[Entry]) -> None:
    for of in range(300):
        members = family_entries(of)
        assert len(members) == family_size(of)
        products = [one.product for one in members]
        assert len({(product.query, product.product_category, product.category) for product in products}) == 1
        assert len({product.attributes for product in products}) > len(products) // 2
        assert len(set.intersection(*(set(product.attributes) for product in products))) >= 2
        for cheap, dear in zip(members[::2], members[1::2]):
            extra = set(dear.product.attributes) - set(cheap.product.attributes)
            assert set(cheap.product.attributes) < set(dear.product.attributes) and len(extra) == 1
            assert dear.synthetic is not None
            assert all(extra <= set(asked.attributes) for asked in (*dear.human, dear.synthetic))
            if NO_PRICE not in cheap.product.prices + dear.product.prices:
                assert dear.product.prices[0] - 40 > cheap.product.prices[-1] // 10 * 10


def test_a_cheap_goal_excludes_the_dear_twin() -> None:
    for of in range(200):
        members = family_entries(of)
        for cheap, dear in zip(members[::2], members[1::2]):
            if NO_PRICE not in cheap.product.prices + dear.product.prices:
                assert all(goal.price_upper < dear.product.price for goal in make_goals([cheap], "human"))


def test_splits_keep_families_together(entries: list[Entry]) -> None:
    for kind in ("human", "synthetic"):
        goals = make_goals(entries[:1000], kind)
        arranged, ranges = EmbeddedCatalogue(1000).arrange(list(goals))
        assert sorted(map(repr, goals)) == sorted(map(repr, arranged))
        assert list(ranges) == ["test", "dev", "train"] and ranges["test"].start == 0
        assert ranges["test"].stop == ranges["dev"].start and ranges["dev"].stop == ranges["train"].start
        assert ranges["train"].stop == len(goals)
        of = {split: {family_of(number_of(arranged[n].asin)) for n in ranges[split]} for split in ranges}
        assert not of["test"] & of["dev"] and not of["test"] & of["train"] and not of["dev"] & of["train"]
        again, _ = EmbeddedCatalogue(1000).arrange(list(goals))
        assert again == arranged
        sections = {one.product.asin: one.product.category for one in entries}
        assert all(
            len({sections[goal.asin] for goal in arranged[n : n + 20]}) > 2 for n in range(0, len(goals) - 20, 20)
        )


def test_splits_are_shared_out() -> None:
    shares = Counter(split_of(of, len(KINDS)) for of in range(20_000))
    for split, share in (("train", 0.75), ("dev", 0.10), ("test", 0.15)):
        assert abs(shares[split] / 20_000 - share) < 0.01
    assert {split_of(of, len(KINDS)) for of in range(4)} == {"train", "dev", "test"}
    trained = {
        one.product.query for of in range(2 * len(KINDS)) if split_of(of, 65) == "train" for one in family_entries(of)
    }
    assert trained == {kind.query for kind in KINDS}


def test_arranging_goals_of_another_shop_is_refused() -> None:
    goal = make_goals([entry(0)], "human")[0]
    with pytest.raises(UnknownTaskError, match="no product of the embedded catalogue"):
        EmbeddedCatalogue(10).arrange([type(goal)("X1", *(getattr(goal, name) for name in goal.__slots__[1:]))])


def test_nouns_of_titles() -> None:
    nouns = EmbeddedCatalogue().nouns
    assert nouns("Norvale Women's Running Shoes, Non Slip, Rubber Sole") == (
        "norvale",
        "shoes",
        "slip",
        "rubber",
        "sole",
    )
    assert nouns("Men's T Shirt by Penway, Slim Fit, for Hot Days") == ("t", "shirt", "penway", "fit", "days")


def test_titles_tell_kinds_apart(entries: list[Entry]) -> None:
    catalogue = EmbeddedCatalogue()
    nouns = [set(catalogue.nouns(one.product.title)) for one in entries]
    other_kinds = []
    for number in range(0, MANY - 200, 3):
        for other in (number + 1, number + 50, number + 199):
            share = len(nouns[number] & nouns[other]) / len(nouns[number])
            if entries[number].product.query == entries[other].product.query:
                assert share >= 0.1, (entries[number].product.title, entries[other].product.title)
            else:
                other_kinds.append(share)
    assert sum(share == 0 for share in other_kinds) / len(other_kinds) > 0.9
    assert sum(share > 0.2 for share in other_kinds) / len(other_kinds) < 0.03


def test_the_vocabulary_is_closed_and_small(entries: list[Entry]) -> None:
    known = {word for text in vocabulary_texts() for word in words(text)}
    assert len(known) <= 2000
    for one in entries:
        product = one.product
        said = [instruction.text for instruction in one.human] + [one.synthetic.text if one.synthetic else ""]
        offered = [f"{name} {' '.join(values)}" for name, values in product.options]
        for text in (texts_of(product), product.query, product.product_category, *said, *offered):
            assert known.issuperset(words(text)), set(words(text)) - known
