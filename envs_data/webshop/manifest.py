"""The generated products are fixed: their hash stands here, and a test holds the generator to it."""

import hashlib
from collections.abc import Iterable

from envs_data.webshop.product import Entry

MANIFEST_PRODUCTS = 1000
"""How many products, from the first, stand for all."""

MANIFEST = "0dd51c4bd4641415"
"""`content_hash` of them. A change here is a new catalogue: caches are built anew, scores compare no more."""


def content_hash(entries: Iterable[Entry]) -> str:
    """16 hex digits of the SHA-256 of all that is in the entries."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(repr(entry).encode())
    return digest.hexdigest()[:16]
