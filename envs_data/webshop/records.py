"""Records of the official files, checked and cleaned as the original's loader cleans them."""

import json
import math
import re
import sys
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from envs_data.errors import ProductFileError
from envs_data.webshop.product import NO_PRICE, Instruction, Product

NO_ATTRIBUTES = ("DUMMY_ATTR",)
"""Attributes of a product for which the attribute file names none."""
LONGEST_ASIN = 10
_ASIN = re.compile(r"[A-Za-z0-9_-]+")
_NOT_PRICE = re.compile(r"[^\d.]")


class FieldError(ProductFileError):
    """What is wrong with a field; the reader of the file puts file and record before it."""

    def __init__(self, field: str, expected: str, found: object) -> None:
        super().__init__(f"field {field!r}: expected {expected}, found {_shown(found)}")


def read_asin(record: Any) -> str | None:
    """The record's asin; None where the original skips the record ("nan", or longer than ten characters).

    The original takes any other asin; one of other characters than letters, digits, "-" and "_" is refused here, since
    it could not be named in an action or an address.

    Raises:
        FieldError: the record is no object, or has no usable asin.
    """
    if not isinstance(record, dict):
        raise FieldError("record", "an object", record)
    asin = _text(record, "asin")
    if asin == "nan" or len(asin) > LONGEST_ASIN:
        return None
    if not _ASIN.fullmatch(asin):
        raise FieldError("asin", "letters, digits, '-' and '_'", asin)
    return asin


def read_product(asin: str, record: Mapping[str, Any], attributes: tuple[str, ...] = NO_ATTRIBUTES) -> Product:
    """The product of one record of `items_shuffle.json`.

    Fields that nothing uses are not looked at: `images` may be empty or absent (the original stops with an IndexError
    there). A category that is null is taken for an empty one: the original gets that far too.

    Raises:
        FieldError: a field that is used is absent, of another type, or a price that is none.
    """
    bullets = _field(record, "small_description")
    prices, tag = read_prices(record.get("pricing"))
    return Product(
        asin=asin,
        title=_text(record, "name"),
        description=_text(record, "full_description"),
        bullets=_texts(bullets, "small_description") or ("",)
        if isinstance(bullets, list)
        else (_text(record, "small_description"),),
        category=_text(record, "category", null=""),
        query=_text(record, "query").lower().strip(),
        product_category=_text(record, "product_category", null=""),
        prices=prices,
        price_tag=tag,
        options=_options(_field(record, "customization_options")),
        attributes=attributes,
    )


def read_prices(pricing: Any) -> tuple[tuple[float, ...], str]:
    """(one price or two, the price tag) of "$12.00", "$1,012.00 - $34.00" or nothing.

    Everything but digits and points is dropped from what follows each "$". Where that leaves no number, or there is no
    "$" at all, the original stops with an exception of Python's; here that is a FieldError.
    """
    if not pricing:
        return (NO_PRICE,), f"${NO_PRICE}"
    expected = "prices such as '$12.00' or '$12.00$34.00'"
    if not isinstance(pricing, str):
        raise FieldError("pricing", expected, pricing)
    try:
        prices = tuple(float(Decimal(_NOT_PRICE.sub("", piece))) for piece in pricing.split("$")[1:])
    except (InvalidOperation, ValueError) as error:
        raise FieldError("pricing", expected, pricing) from error
    if not prices or not all(map(math.isfinite, prices)):
        raise FieldError("pricing", expected, pricing)
    return prices[:2], " to ".join(f"${price}" for price in prices[:2])


def read_attributes(record: Any) -> tuple[tuple[str, ...], Instruction | None]:
    """(attributes, synthetic instruction) of a product's entry in `items_ins_v2.json`."""
    if not isinstance(record, dict):
        raise FieldError("record", "an object", record)
    found = record.get("attributes")
    attributes = NO_ATTRIBUTES if found is None else _phrases(found, "attributes")
    if record.get("instruction") is None:
        return attributes, None
    return attributes, Instruction(_text(record, "instruction"), _wanted(record, "instruction_attributes"), ())


def read_human(records: Any) -> tuple[Instruction, ...]:
    """Instructions of a product's entry in `items_human_ins.json`."""
    if not isinstance(records, list):
        raise FieldError("record", "a list of objects", records)
    found = []
    for record in records:
        if not isinstance(record, dict):
            raise FieldError("record", "a list of objects", record)
        wanted = _wanted(record, "instruction_attributes")
        found.append(Instruction(_text(record, "instruction"), wanted, _wanted(record, "instruction_options")))
    return tuple(found)


def _options(found: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    name = "customization_options"
    if not found:
        return ()
    if not isinstance(found, dict):
        raise FieldError(name, "an object of lists, or ''", found)
    options: dict[str, tuple[str, ...]] = {}  # of names that differ in case only the last one's values count
    for option, contents in found.items():
        if contents is None:
            continue
        if not isinstance(contents, list):
            raise FieldError(f"{name}.{option[:40]}", "a list of objects, or null", contents)
        values = []
        for content in contents:
            if not isinstance(content, dict):
                raise FieldError(f"{name}.{option[:40]}", "a list of objects", content)
            values.append(_text(content, "value", within=f"{name}.{option[:40]}.").strip().replace("/", " | ").lower())
        options[_clean(option).lower()] = tuple(values)
    return tuple(options.items())


def _wanted(record: Mapping[str, Any], field: str) -> tuple[str, ...]:
    found = record.get(field)
    return () if found is None else _phrases(found, field)


def _phrases(found: Any, field: str) -> tuple[str, ...]:
    """Short texts that many products share: each is kept in memory once."""
    return tuple(map(sys.intern, _texts(found, field)))


def _texts(found: Any, field: str) -> tuple[str, ...]:
    if not isinstance(found, list):
        raise FieldError(field, "a list of strings", found)
    for text in found:
        if not isinstance(text, str):
            raise FieldError(field, "a list of strings", text)
    return tuple(map(_clean, found))


def _field(record: Mapping[str, Any], field: str, within: str = "") -> Any:
    try:
        return record[field]
    except KeyError:
        raise ProductFileError(f"field {(within + field)!r} is absent") from None


def _text(record: Mapping[str, Any], field: str, *, null: str | None = None, within: str = "") -> str:
    found = _field(record, field, within)
    if isinstance(found, str):
        return _clean(found)
    if found is None and null is not None:
        return null
    raise FieldError(within + field, "a string", found)


def _clean(text: str) -> str:
    r"""`text` with U+FFFD for half of a surrogate pair (JSON can say "\ud83d" alone; no file or page can hold it)."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _shown(found: object) -> str:
    if isinstance(found, str):
        return repr(found if len(found) <= 60 else found[:60] + "…")
    if isinstance(found, (list, dict)):
        return "a list" if isinstance(found, list) else "an object"
    return json.dumps(found)[:60]
