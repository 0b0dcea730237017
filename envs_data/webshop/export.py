"""Write a catalogue in the three official files, for other implementations of WebShop to read."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from envs_data.errors import DataError, ProductFileError
from envs_data.webshop.official import HUMAN_FILE
from envs_data.webshop.product import Entry, Instruction, Product
from envs_data.webshop.records import read_asin, read_attributes, read_human, read_product


class CatalogueExportError(DataError):
    """An entry has what the official files cannot say, or the folder cannot be written."""


def write_official(entries: Iterable[Entry], folder: Path, *, size: str = "") -> int:
    """Write `items_shuffle{size}.json`, `items_ins_v2{size}.json` and `items_human_ins.json`; returns how many.

    Entries are written as they come, in little memory, and must be what `OfficialCatalogue` reads back: with asins of
    their own, options in lower case and so on. Files that are there are replaced once all three are whole; on any error
    they stay as they were.

    Args:
        entries: What to write; an iterator may make them on the way.
        folder: Where to; made if absent.
        size: Middle of the names, such as "_1000".

    Raises:
        CatalogueExportError: an entry would not be read back as it is, or the folder cannot be written.
        DataError: whatever `entries` raises.
    """
    names = (HUMAN_FILE, f"items_ins_v2{size}.json", f"items_shuffle{size}.json")
    seen: set[str] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _together([folder / name for name in names]) as files:
            human, attributes, products = map(_Records, files, ("{}", "{}", "[]"))
            for entry in entries:
                asin = entry.product.asin
                if asin.upper() in seen:
                    raise CatalogueExportError(f"product {asin} is there twice; give each an asin of its own")
                seen.add(asin.upper())
                record, wanted, instructions = _records(entry)
                products.add(json.dumps(record))
                attributes.add(f"{json.dumps(asin)}: {json.dumps(wanted)}")
                if instructions:
                    human.add(f"{json.dumps(asin)}: {json.dumps(instructions)}")
            for records in (human, attributes, products):
                records.end()
    except OSError as error:
        raise CatalogueExportError(
            f"{folder} cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    return len(seen)


class _Records:
    """A JSON list or object, one record a line."""

    def __init__(self, file: TextIO, brackets: str) -> None:
        self._file, self._closing = file, brackets[1]
        self._before = brackets[0] + "\n"

    def add(self, text: str) -> None:
        self._file.write(self._before + text)
        self._before = ",\n"

    def end(self) -> None:
        opening = "" if self._before == ",\n" else self._before
        self._file.write(f"{opening}\n{self._closing}\n")


def _records(entry: Entry) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """The entry's records in the three files, read back once to be sure that they say all of it."""
    product = entry.product
    record, wanted = _product_record(product), _attribute_record(product, entry.synthetic)
    human = [_human_record(product, instruction) for instruction in entry.human]
    try:
        attributes, synthetic = read_attributes(wanted)
        asin = read_asin(record)
        same = asin is not None and entry == Entry(read_product(asin, record, attributes), read_human(human), synthetic)
    except ProductFileError as error:
        raise CatalogueExportError(f"product {product.asin!r}: {error}") from error
    if not same:
        raise CatalogueExportError(
            f"product {product.asin!r} has what the official files cannot say, such as upper case or '/' in options, "
            "an asin of more than ten characters, no bullets, or a price tag of its own"
        )
    return record, wanted, human


def _product_record(product: Product) -> dict[str, Any]:
    options = {name: [{"value": value, "image": None} for value in values] for name, values in product.options}
    return {
        "name": product.title,
        "full_description": product.description,
        "pricing": "".join(f"${Decimal(repr(price)):f}" for price in product.prices),
        "images": [""],  # the original shows the first one and stops where there is none
        "product_category": product.product_category,
        "small_description": list(product.bullets),
        "customization_options": options or "",
        "asin": product.asin,
        "category": product.category,
        "query": product.query,
    }


def _attribute_record(product: Product, synthetic: Instruction | None) -> dict[str, Any]:
    record: dict[str, Any] = {"attributes": list(product.attributes)}
    if synthetic is not None:
        record |= {"instruction": synthetic.text, "instruction_attributes": list(synthetic.attributes)}
    return record


def _human_record(product: Product, instruction: Instruction) -> dict[str, Any]:
    return {
        "asin": product.asin,
        "instruction": instruction.text,
        "attributes": list(product.attributes),
        "options": [
            f"{name}: {value}" for name, values in product.options for value in values if value in instruction.options
        ],
        "instruction_attributes": list(instruction.attributes),
        "instruction_options": list(instruction.options),
        "assignment_id": "",
        "worker_id": "",
    }


@contextmanager
def _together(targets: list[Path]) -> Iterator[list[TextIO]]:
    """Files to write beside `targets`; they take their places, in order, only when all of them are whole."""
    fresh = [target.with_name(f"{target.name}.{os.getpid()}.new") for target in targets]
    try:
        with ExitStack() as opened:
            yield [opened.enter_context(path.open("w", encoding="utf-8")) for path in fresh]
        for path, target in zip(fresh, targets):
            path.replace(target)
    finally:
        for path in fresh:
            with suppress(OSError):
                path.unlink()
