"""Every kind of product that the generated shop sells, section by section."""

from itertools import chain, zip_longest

from envs_data.webshop.vocabulary import Kind
from envs_data.webshop.wares.beauty import BEAUTY
from envs_data.webshop.wares.electronics import ELECTRONICS
from envs_data.webshop.wares.fashion import FASHION
from envs_data.webshop.wares.garden import GARDEN
from envs_data.webshop.wares.grocery import GROCERY

SHELVES = (BEAUTY, GARDEN, GROCERY, ELECTRONICS, FASHION)

KINDS: tuple[Kind, ...] = tuple(
    kind for kind in chain.from_iterable(zip_longest(*(shelf.kinds for shelf in SHELVES))) if kind
)
"""All kinds, the sections taking turns."""
