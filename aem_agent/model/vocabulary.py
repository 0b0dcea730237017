"""Words that a tokenizer should know beyond those its training texts happen to hold."""

from collections.abc import Iterator

from envs_data.alfworld.vocabulary import OBJECTS, RECEPTACLES, spoken
from envs_data.webshop.generator import vocabulary_texts

_PHRASES = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room.",
    "Looking quickly around you, you see a thing, and an other. Your task is to: find two put them some put a clean",
    "put a hot, put a cool, look at, examine, with the, in, on, it. heat clean cool some and put it in. under the.",
    "go to take from move to put in/on open close use heat clean cool slice with examine inventory look",
    "You arrive at loc . You open the . You close the . The is open. The is closed. In it, you see nothing. On the ,",
    "You pick up the from the. You move the to the. You put the in/on the. You heat the using the. You clean the using",
    "You cool the using the. You sliced the with the. You turn on the. You are facing. You are carrying: not anything.",
    "Nothing happens. There's nothing special about. This is a hot, cold, clean, cooked, sliced. The is on. You are",
)
"""Fixed words of observations, tasks and commands; only the words count."""


def alfworld_words(objects: int = 8, receptacles: int = 40) -> Iterator[str]:
    """Every type of object and receptacle alone and with every number from 1 up, and fixed words of both dialects.

    Chain it behind texts of games played: in official games more names occur than any sample of games holds.
    """
    yield from _PHRASES
    for kinds, highest in ((OBJECTS, objects), (RECEPTACLES, receptacles)):
        for kind in kinds:
            yield spoken(kind)  # tasks name types, which are words of their own where numbers are merged
            yield from (f"{spoken(kind)} {number}" for number in range(1, highest + 1))


_SHOP_PHRASES = (
    "task : under - > \n search open choose buy back next prev description features reviews < r c q",
    "results page no results item home done, fits dear [...]",
    "WebShop Instruction: Search Back to Search Page (Total results: ) Next > < Prev [SEP] $ Price: Rating: N.A.",
    "Description Features Reviews Buy Now, and price lower than dollars. Thank you for shopping with us! click[ ]",
)


def webshop_words(highest: int = 1000) -> Iterator[str]:
    """All that the generated shop can say, fixed words of pages and actions, small numbers, and prices in whole tens
    up to `highest`, as they are and as instructions write them.
    """
    yield from _SHOP_PHRASES
    yield from vocabulary_texts()
    yield from map(str, range(1, 61))
    yield from (f"{price} {price}.00" for price in range(10, highest + 1, 10))
