"""The generated catalogue is fixed: its hash stands here, and a test holds the generator to it."""

import hashlib
from collections.abc import Iterable

from envs_data.webshop.numbers import family_of, number_of, split_of
from envs_data.webshop.product import Entry
from envs_data.webshop.wares import KINDS

MANIFEST_PRODUCTS = 1000
"""How many products, from the first, stand for all."""

MANIFEST = "ca0550eac2af60ec"
"""`content_hash` of them. A change here is a new catalogue: caches are built anew, scores compare no more."""


def content_hash(entries: Iterable[Entry]) -> str:
    """16 hex digits of the SHA-256 of all that is in generated entries, and of their splits."""
    digest = hashlib.sha256()
    for entry in entries:
        split = split_of(family_of(number_of(entry.product.asin)), len(KINDS))
        digest.update(f"{split} {entry!r}\n".encode())
    return digest.hexdigest()[:16]
