"""The official files: found, cleaned as the original cleans them, refused with file, record and field.

(Over 300 lines: one reader, fed every odd record with the same few helpers.)
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from envs_data.errors import DataError, DataUnavailableError, ProductFileError
from envs_data.webshop.goals import make_goals
from envs_data.webshop.official import OfficialCatalogue, find_files
from envs_data.webshop.product import Entry, Goal, Instruction, Product
from envs_data.webshop.records import read_prices

RECORD: dict[str, Any] = {
    "name": "Shoe",
    "full_description": "A shoe.",
    "pricing": "$12.00",
    "product_category": "Shoes › Pumps",
    "small_description": ["soft"],
    "customization_options": "",
    "asin": "B000000001",
    "category": "fashion",
    "query": " Women's Shoes ",
}


@pytest.fixture(autouse=True)
def _no_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)


def _write(folder: Path, items: Any, ins: Any = None, human: Any = None, size: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"items_shuffle{size}.json").write_text(json.dumps(items))
    (folder / f"items_ins_v2{size}.json").write_text(json.dumps(ins or {}))
    if human is not None:
        (folder / "items_human_ins.json").write_text(json.dumps(human))
    return folder


def _product(folder: Path, **changes: Any) -> Product:
    (entry,) = OfficialCatalogue(_write(folder, [RECORD | changes])).entries()
    return entry.product


def _fault(folder: Path, items: Any, ins: Any = None, human: Any = None) -> str:
    with pytest.raises(ProductFileError) as caught:
        list(OfficialCatalogue(_write(folder, items, ins, human)).entries())
    message = str(caught.value)
    assert message.startswith(str(folder))
    return message.removeprefix(str(folder) + "/")


def test_example_files(official_webshop: Path) -> None:
    catalogue = OfficialCatalogue(official_webshop)
    table, pumps, shampoo = catalogue.entries()
    assert (catalogue.name, catalogue.goal_kinds, catalogue.note) == (
        "official-items_shuffle",
        ("human", "synthetic"),
        "",
    )
    assert table == Entry(
        Product(
            asin="B000EXMPL1",
            title="Example Narrow Oak Console Table, 54 Inch, Natural",
            description="A narrow table in natural oak.",
            bullets=("Material: solid wood ", "Weight: 41 "),
            category="garden",
            query="console tables",
            product_category="Home & Kitchen › Furniture › Living Room Furniture › Tables › Sofa & Console Tables",
            prices=(877.8,),
            price_tag="$877.8",
            options=(),
            attributes=(),
        )
    )
    # no price, a null option, no images (where the original stops)
    assert (pumps.product.prices, pumps.product.price_tag, pumps.product.options) == ((100.0,), "$100.0", ())
    assert pumps.product.attributes == ("high heel",) and pumps.product.query == "women's pumps"
    # two prices, one string instead of a list, "/" in an option value
    assert (shampoo.product.prices, shampoo.product.price_tag) == ((12.0, 34.0), "$12.0 to $34.0")
    assert 12.0 < shampoo.product.price < 34.0
    assert shampoo.product.bullets == ("One string instead of a list",)
    assert shampoo.product.options == (("size", ("13.5 fl oz", "travel | mini")),)
    assert shampoo.human == (
        Instruction("i need a sulfate free shampoo in a travel size.", ("sulfate free",), ("travel | mini",)),
    )
    assert shampoo.synthetic == Instruction(
        "Find me sulfate free shampoo & conditioner with natural ingredients",
        ("sulfate free", "natural ingredients"),
        (),
    )
    (human,) = make_goals(catalogue.entries(), "human")
    assert human.instruction.startswith("i need a sulfate free shampoo in a travel size, and price lower than ")
    assert [goal.options for goal in make_goals(catalogue.entries(), "synthetic")] == [
        (("size", "13.5 fl oz"),),
        (("size", "travel | mini"),),
    ]


def test_skips_what_the_original_skips(tmp_path: Path) -> None:
    asins = ["B1", "nan", "B1", "TOO-LONG-AN", "b1", "EXACTLY-10", "B2"]
    _write(tmp_path, [RECORD | {"asin": asin, "name": str(n)} for n, asin in enumerate(asins)])
    found = [(entry.product.asin, entry.product.title) for entry in OfficialCatalogue(tmp_path).entries()]
    assert found == [("B1", "0"), ("EXACTLY-10", "5"), ("B2", "6")]
    first = OfficialCatalogue(tmp_path, products=6)  # records, skipped ones included, as num_products
    assert [entry.product.asin for entry in first.entries()] == ["B1", "EXACTLY-10"]
    assert first.name == "official-items_shuffle-first6"
    (tmp_path / "items_shuffle.json").write_text(json.dumps([RECORD, RECORD])[:-20])
    assert len(list(OfficialCatalogue(tmp_path, products=1).entries())) == 1  # what follows is not read
    for wrong in (0, -1):
        with pytest.raises(DataError, match="1 or more"):
            OfficialCatalogue(tmp_path, products=wrong)


def test_options_are_cleaned(tmp_path: Path) -> None:
    options = {"Color Name": [{"value": " Red/Blue "}, {"value": "RED"}], "None": None, "Empty": [], "empty": []}
    options |= {"SIZE": [{"value": "x"}], "size": [{"value": "M", "image": None}]}
    assert _product(tmp_path, customization_options=options).options == (
        ("color name", ("red | blue", "red")),
        ("empty", ()),
        ("size", ("m",)),  # names that differ in case only: the last one's values, in the first one's place
    )
    for none in ("", None, {}, []):
        assert _product(tmp_path, customization_options=none).options == ()


@pytest.mark.parametrize(
    ("pricing", "prices", "tag"),
    [
        ("", (100.0,), "$100.0"),
        (None, (100.0,), "$100.0"),
        ("$12.50", (12.5,), "$12.5"),
        ("$1,234.00", (1234.0,), "$1234.0"),
        ("$1,012.00 - $34.10", (1012.0, 34.1), "$1012.0 to $34.1"),
        ("$1$2$3", (1.0, 2.0), "$1.0 to $2.0"),
        ("USD 5 $7", (7.0,), "$7.0"),  # what comes before the first "$" is dropped
    ],
)
def test_prices(pricing: str | None, prices: tuple[float, ...], tag: str) -> None:
    assert read_prices(pricing) == (prices, tag)


@pytest.mark.parametrize("pricing", ["12.00", "$", "$abc", "$1.2.3", "$1$x", "$.", 12.0, ["$1"], "$" + "9" * 400])
def test_prices_that_are_none_are_refused(tmp_path: Path, pricing: Any) -> None:
    fault = _fault(tmp_path, [RECORD, RECORD | {"asin": "B2", "pricing": pricing}])
    assert fault.startswith("items_shuffle.json: record 2 (asin B2): field 'pricing': expected prices such as")


def test_bullets_attributes_and_categories(tmp_path: Path) -> None:
    assert _product(tmp_path, small_description=[]).bullets == ("",)
    assert _product(tmp_path, small_description="one").bullets == ("one",)
    assert _product(tmp_path).attributes == ("DUMMY_ATTR",)
    assert _product(tmp_path, category=None, product_category=None).product_category == ""
    ins = {"B000000001": {"instruction": None, "instruction_attributes": ["x"]}, "B9": {"attributes": []}}
    human = {"B000000001": [{"instruction": "find", "asin": "B000000001"}]}
    (entry,) = OfficialCatalogue(_write(tmp_path, [RECORD], ins, human)).entries()
    assert entry.product.attributes == ("DUMMY_ATTR",) and entry.synthetic is None
    assert entry.human == (Instruction("find", (), ()),) and make_goals([entry], "human") == []
    ins = {"B000000001": {"attributes": ["a"], "instruction": "find", "instruction_attributes": None}}
    (entry,) = OfficialCatalogue(_write(tmp_path, [RECORD], ins)).entries()
    assert entry.synthetic == Instruction("find", (), ()) and make_goals([entry], "synthetic") == []


def test_half_a_surrogate_pair_can_be_written_and_shown(tmp_path: Path) -> None:
    ins = {"B000000001": {"attributes": ["a\ude00"]}}
    record = RECORD | {
        "name": "x\ud83d",
        "query": "\ud83d\ude00 É",
        "customization_options": {"c\ud83d": [{"value": "v"}]},
    }
    (entry,) = OfficialCatalogue(_write(tmp_path, [record], ins)).entries()
    product = entry.product
    assert (product.title, product.query, product.attributes) == ("x\ufffd", "\U0001f600 é", ("a\ufffd",))
    assert product.options[0][0] == "c\ufffd"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": None}, "field 'name': expected a string, found null"),
        ({"name": float("nan")}, "field 'name': expected a string, found NaN"),
        ({"query": 1}, "field 'query': expected a string, found 1"),
        ({"category": True}, "field 'category': expected a string, found true"),
        ({"full_description": ["x"]}, "field 'full_description': expected a string, found a list"),
        ({"small_description": ["x", None]}, "field 'small_description': expected a list of strings, found null"),
        ({"small_description": {}}, "field 'small_description': expected a string, found an object"),
        ({"customization_options": "red"}, "field 'customization_options': expected an object of lists"),
        (
            {"customization_options": {"c": "red"}},
            "field 'customization_options.c': expected a list of objects, or null",
        ),
        (
            {"customization_options": {"c": ["red"]}},
            "field 'customization_options.c': expected a list of objects, found",
        ),
        ({"customization_options": {"c": [{}]}}, "field 'customization_options.c.value' is absent"),
        ({"customization_options": {"c": [{"value": 3}]}}, "field 'customization_options.c.value': expected a string"),
        ({"name": {"x" * 500: 1}}, "found an object"),
    ],
)
def test_faults_of_products_name_file_record_asin_and_field(tmp_path: Path, changes: Any, expected: str) -> None:
    fault = _fault(tmp_path, [RECORD, RECORD | {"asin": "B2"} | changes])
    assert fault.startswith("items_shuffle.json: record 2 (asin B2): field ") and expected in fault and len(fault) < 250


def test_absent_fields_and_odd_asins(tmp_path: Path) -> None:
    for field in ("name", "full_description", "product_category", "small_description", "query", "category"):
        fault = _fault(tmp_path, [{key: value for key, value in RECORD.items() if key != field}])
        assert fault == f"items_shuffle.json: record 1 (asin B000000001): field {field!r} is absent"
    assert "record 1: field 'asin' is absent" in _fault(tmp_path, [{}])
    assert "record 1: field 'record': expected an object, found a list" in _fault(tmp_path, [[]])
    assert "record 2: field 'asin'" in _fault(tmp_path, [RECORD, {"asin": 3}]), "not the asin of the record before"
    for asin in ("", "<b>", "a b", "../x", "É", "a\n"):
        assert "field 'asin': expected letters" in _fault(tmp_path, [RECORD | {"asin": asin}])


@pytest.mark.parametrize(
    ("ins", "expected"),
    [
        ({"A": {}, "B": []}, "record 2 (asin 'B'): field 'record': expected an object, found a list"),
        ({"A": {"attributes": "x"}}, "record 1 (asin 'A'): field 'attributes': expected a list of strings, found 'x'"),
        ({"A": {"attributes": [1]}}, "field 'attributes': expected a list of strings, found 1"),
        ({"A": {"instruction": 1}}, "field 'instruction': expected a string, found 1"),
        ({"A": {"instruction": "x", "instruction_attributes": "y"}}, "field 'instruction_attributes': expected a list"),
        ([1], "expected an object ('{') at its start"),
    ],
)
def test_faults_of_attributes(tmp_path: Path, ins: Any, expected: str) -> None:
    fault = _fault(tmp_path, [RECORD], ins)
    assert fault.startswith("items_ins_v2.json: ") and expected in fault


@pytest.mark.parametrize(
    ("human", "expected"),
    [
        ({"A": {}}, "record 1 (asin 'A'): field 'record': expected a list of objects, found an object"),
        ({"A": ["x"]}, "field 'record': expected a list of objects, found 'x'"),
        ({"A": [{}]}, "field 'instruction' is absent"),
        ({"A": [{"instruction": None}]}, "field 'instruction': expected a string, found null"),
        (
            {"A": [{"instruction": "x", "instruction_options": {"c": "red"}}]},
            "field 'instruction_options': expected a list",
        ),
    ],
)
def test_faults_of_instructions(tmp_path: Path, human: Any, expected: str) -> None:
    fault = _fault(tmp_path, [RECORD], {}, human)
    assert fault.startswith("items_human_ins.json: ") and expected in fault


def test_files_are_found_as_users_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "WebShop"
    data = _write(checkout / "data", [RECORD], size="_1000")
    small = find_files(checkout)  # a checkout of the original
    assert small == find_files(data) == find_files(str(data / "items_shuffle_1000.json"))
    assert (small.attributes.name, small.human) == ("items_ins_v2_1000.json", None)
    monkeypatch.setenv("WEBSHOP_DATA", str(checkout))
    assert find_files() == small and OfficialCatalogue().name == "official-items_shuffle_1000"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_files("~/WebShop") == small
    _write(data, [RECORD], human={})  # both sizes: the full one, unless the other is named
    assert find_files(data).products.name == "items_shuffle.json"
    assert find_files(data / "items_shuffle_1000.json").products.name == "items_shuffle_1000.json"
    (data / "items_ins_v2_1000.json").unlink()  # the full attribute file knows the small version's products
    assert find_files(data / "items_shuffle_1000.json").attributes.name == "items_ins_v2.json"
    own = _write(tmp_path / "own", [RECORD], size="_mine")
    assert find_files(own).products.name == "items_shuffle_mine.json"
    _write(own, [RECORD], size="_other")
    with pytest.raises(
        DataUnavailableError, match=r"items_shuffle_mine\.json, items_shuffle_other\.json: give the path"
    ):
        find_files(own)


def test_missing_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match=r"WEBSHOP_DATA is not set; run `aem-data webshop download`"):
        find_files()
    with pytest.raises(DataUnavailableError, match="no such file or folder"):
        find_files(tmp_path / "nowhere")
    with pytest.raises(DataUnavailableError, match="webshop download"):
        find_files(tmp_path)
    (tmp_path / "items_shuffle_1000.json").write_text("[]")
    with pytest.raises(DataUnavailableError, match=r"items_ins_v2_1000\.json is missing; run"):
        find_files(tmp_path)
    (tmp_path / "products.json").write_text("[]")
    with pytest.raises(DataUnavailableError, match=r"products\.json: expected a file named items_shuffle"):
        find_files(tmp_path / "products.json")


def test_without_human_instructions_only_synthetic_goals(tmp_path: Path) -> None:
    catalogue = OfficialCatalogue(_write(tmp_path, [RECORD]))
    assert catalogue.goal_kinds == ("synthetic",) and make_goals(catalogue.entries(), "human") == []
    assert catalogue.note.startswith("no items_human_ins.json in ") and "only synthetic goals" in catalogue.note


def test_splits_are_the_originals(tmp_path: Path) -> None:
    catalogue = OfficialCatalogue(_write(tmp_path, [RECORD]))
    goals = [Goal(f"B{n}", "human", "", ("a",), (), 1e6) for n in range(1700)]
    expected = list(goals)
    random.seed(233)
    random.shuffle(expected)
    arranged, splits = catalogue.arrange(goals)
    assert arranged == expected != goals and goals[1].asin == "B1"
    assert splits == {"train": range(1500, 1700), "dev": range(500, 1500), "test": range(500)}
    assert catalogue.arrange(goals[:700])[1] == {"train": range(0), "dev": range(500, 700), "test": range(500)}
    assert {split: len(part) for split, part in catalogue.arrange([])[1].items()} == {"train": 0, "dev": 0, "test": 0}
    assert tuple(splits) == catalogue.splits and catalogue.nouns("Oak Table") is None


def test_hash_is_of_what_is_read(tmp_path: Path) -> None:
    def data_hash(name: str, *args: Any, products: int | None = None) -> str:
        return OfficialCatalogue(_write(tmp_path / name, *args), products).data_hash

    first = data_hash("a", [RECORD], {}, {})
    assert first == data_hash("b", [RECORD], {}, {}) and len(first) == 16 and int(first, 16)
    others = {
        data_hash("a", [RECORD], {}, {}, products=1),
        data_hash("c", [RECORD], {}),
        data_hash("d", [RECORD], {"A": {}}, {}),
        data_hash("e", [RECORD], {}, {"A": []}),
        data_hash("f", [RECORD, RECORD], {}, {}),
    }
    assert len(others | {first}) == 6
