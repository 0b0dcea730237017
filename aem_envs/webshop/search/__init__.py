"""Search of the shop: BM25 over Lucene's English terms, in memory-mapped arrays that all processes share."""

from aem_envs.webshop.search.builder import IndexBuilder
from aem_envs.webshop.search.files import INDEX_VERSION, BadIndexError
from aem_envs.webshop.search.index import SearchIndex

__all__ = ["INDEX_VERSION", "BadIndexError", "IndexBuilder", "SearchIndex"]
