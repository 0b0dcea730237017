"""Export: what is written in the official form is read back equal, and could be read by the original."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs_data.errors import DataError
from envs_data.webshop.export import CatalogueExportError, write_official
from envs_data.webshop.official import OfficialCatalogue
from envs_data.webshop.product import Entry, Instruction, Product

PRODUCT = Product(
    asin="B000000001",
    title='Oak "Table" ☃ </script>',
    description="line\nline",
    bullets=("", "solid"),
    category="garden",
    query="tables",
    product_category="Home › Tables",
    prices=(12.5, 1234.0),
    price_tag="$12.5 to $1234.0",
    options=(("color", ("red | blue", "red")), ("empty", ())),
    attributes=("solid wood",),
)
ENTRY = Entry(
    PRODUCT,
    (Instruction("a red table.", ("solid wood",), ("red",)), Instruction("none", (), ())),
    Instruction("find a table", ("solid wood",), ()),
)

_text = st.text(max_size=20).filter(lambda text: "\x00" not in text)
_phrases = st.lists(_text, max_size=3).map(tuple)
_option = (
    st.text(max_size=8)
    .map(lambda text: text.strip().replace("/", " | ").lower())
    .filter(lambda text: text == text.strip().lower())
)
_prices = st.one_of(
    st.tuples(st.floats(0, 1e7)), st.tuples(st.floats(0, 1e7), st.floats(1e-12, 1e20)), st.just((100.0,))
).map(lambda prices: tuple(price + 0.0 for price in prices))
_instructions = st.builds(Instruction, _text, _phrases, _phrases)
_products = st.builds(
    Product,
    asin=st.from_regex(r"[A-Z0-9]{1,10}", fullmatch=True).filter(lambda asin: asin != "nan"),
    title=_text,
    description=_text,
    bullets=st.lists(_text, min_size=1, max_size=3).map(tuple),
    category=_text,
    query=_option,
    product_category=_text,
    prices=_prices,
    price_tag=st.just(""),
    options=st.dictionaries(_option, st.lists(_option, max_size=3).map(tuple), max_size=3).map(
        lambda options: tuple(options.items())
    ),
    attributes=_phrases,
).map(lambda product: replace(product, price_tag=" to ".join(f"${price}" for price in product.prices)))
_entries = st.builds(
    Entry,
    _products,
    st.lists(_instructions, max_size=2).map(tuple),
    st.none() | _instructions.map(lambda instruction: replace(instruction, options=())),
)


@given(st.lists(_entries, max_size=4, unique_by=lambda entry: entry.product.asin))
def test_read_back_equal(tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]) -> None:
    folder = tmp_path_factory.mktemp("export")
    assert write_official(iter(entries), folder, size="_some") == len(entries)
    assert list(OfficialCatalogue(folder).entries()) == entries
    for name in ("items_shuffle_some.json", "items_ins_v2_some.json", "items_human_ins.json"):
        json.loads((folder / name).read_text("utf-8"))


def test_the_examples_survive(official_webshop: Path, tmp_path: Path) -> None:
    official = OfficialCatalogue(official_webshop)
    write_official(official.entries(), tmp_path / "deep" / "er")
    assert list(OfficialCatalogue(tmp_path / "deep" / "er").entries()) == list(official.entries())


def test_written_as_the_original_reads_it(tmp_path: Path) -> None:
    bare = Entry(replace(PRODUCT, asin="B2", options=(), prices=(100.0,), price_tag="$100.0"))
    write_official([ENTRY, bare], tmp_path)
    items = json.loads((tmp_path / "items_shuffle.json").read_text())
    assert [item["pricing"] for item in items] == ["$12.5$1234.0", "$100.0"]
    assert items[0]["images"] == [""] and items[1]["customization_options"] == ""
    assert items[0]["customization_options"]["color"][0] == {"value": "red | blue", "image": None}
    attributes = json.loads((tmp_path / "items_ins_v2.json").read_text())
    assert attributes["B2"] == {"attributes": ["solid wood"]}  # the original wants every product there
    human = json.loads((tmp_path / "items_human_ins.json").read_text())
    assert list(human) == ["B000000001"] and human["B000000001"][0] == {
        "asin": "B000000001",
        "instruction": "a red table.",
        "attributes": ["solid wood"],
        "options": ["color: red"],
        "instruction_attributes": ["solid wood"],
        "instruction_options": ["red"],
        "assignment_id": "",
        "worker_id": "",
    }
    assert write_official([], tmp_path) == 0 and list(OfficialCatalogue(tmp_path).entries()) == []


@pytest.mark.parametrize(
    "entry",
    [
        replace(ENTRY, product=replace(PRODUCT, options=(("Color", ("red",)),))),
        replace(ENTRY, product=replace(PRODUCT, options=(("color", ("red/blue",)),))),
        replace(ENTRY, product=replace(PRODUCT, options=(("a", ("x",)), ("a", ("y",))))),
        replace(ENTRY, product=replace(PRODUCT, bullets=())),
        replace(ENTRY, product=replace(PRODUCT, query="Tables")),
        replace(ENTRY, product=replace(PRODUCT, price_tag="$12.50 to $1234.00")),
        replace(ENTRY, product=replace(PRODUCT, prices=(float("nan"),))),
        replace(ENTRY, product=replace(PRODUCT, prices=(-1.0,))),
        replace(ENTRY, product=replace(PRODUCT, title="half a pair \ud83d")),
        replace(ENTRY, product=replace(PRODUCT, asin="B0000000012")),
        replace(ENTRY, product=replace(PRODUCT, asin="nan")),
        replace(ENTRY, product=replace(PRODUCT, asin="")),
        replace(ENTRY, synthetic=Instruction("x", ("a",), ("red",))),
    ],
)
def test_what_the_files_cannot_say_is_refused(tmp_path: Path, entry: Entry) -> None:
    with pytest.raises(CatalogueExportError, match=f"product '{entry.product.asin}'"):
        write_official([entry], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_repeated_products_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueExportError, match="b000000001 is there twice"):
        write_official([ENTRY, Entry(replace(PRODUCT, asin="b000000001"))], tmp_path)


def test_on_an_error_the_old_files_stay(tmp_path: Path) -> None:
    write_official([ENTRY], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def breaks() -> Iterator[Entry]:
        yield Entry(replace(PRODUCT, asin="B2"))
        raise DataError("source broke")

    with pytest.raises(DataError, match="source broke"):
        write_official(breaks(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before and len(before) == 3


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CatalogueExportError, match="cannot be written"):
        write_official([ENTRY], tmp_path / "file")
