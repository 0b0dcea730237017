"""The web shop's texts: what a page says, in few words, and its actions as a small model says them.

    observation                                                 compact
    … Page 1 (Total results: 2) [SEP] Next > [SEP] B0AB [SEP]   results page 1
    Lumo Running Shoes, Non Slip [SEP] $23.5 [SEP] …            Lumo Running Shoes Non Slip fits 1
                                                                …
    … [SEP] < Prev [SEP] color [SEP] red [SEP] navy blue        item
    [SEP] Lumo Running Shoes … [SEP] Buy Now                    color, red, navy blue

A click on the first product is "open 1", on an option "choose navy blue", on a button "buy", "back", "next", "prev",
"description", "features", "reviews"; a search is "search red shoes". Product codes are never said: a word-level model
would have to learn a thousand of them. All this follows from the observation alone, in mode `text`; observations of
other modes, and what is not understood, pass unchanged.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from math import inf
from typing import Literal, NamedTuple

from aem_agent.env_texts import AnyText, Intro
from aem_agent.model.vocabulary import webshop_words

SEP = " [SEP] "
"""Stands between the visible texts of a page."""

_PAGE = re.compile(r"Page (\d+) \(Total results: \d+\)")
_PRICE = re.compile(r"(?:Price: )?\$([\d.]+)(?: to \$([\d.]+))?")
_ASIN = re.compile(r"[A-Za-z0-9]{1,10}")
_LIMIT = re.compile(r",? and price lower than (\d+)\.00 dollars")
_FILLER = re.compile(r"\b(?:an?|the|and|by|with|for|of) |,", re.IGNORECASE)
_PREFIX = re.compile(r"^< ?([rcq]) ?> ?")
_SAID = re.compile(r"(search|open|choose)\b\s*(.+)", re.DOTALL)
_AFTER_OPTIONS = 7
"""Texts of an item's page behind its options: title, price, rating, three sub-pages, the purchase."""

_WORDS = {
    "back to search": "back",
    "next >": "next",
    "< prev": "prev",
    "buy now": "buy",
    "description": "description",
    "features": "features",
    "reviews": "reviews",
}
"""Button → the word for it."""
_CLICKS = {word: f"click[{button}]" for button, word in _WORDS.items()}


class Page(NamedTuple):
    """A page, taken apart."""

    name: Literal["home", "results", "item", "text", "done"]
    number: int = 0
    """Of a page of results."""
    products: tuple[tuple[str, str, str], ...] = ()
    """(asin, title, price tag) of the results."""
    texts: tuple[str, ...] = ()
    """Option names and values of an item's page; lines of its sub-pages."""


class WebshopText:
    """WebShop's texts in observation mode `text`."""

    def intro(self, observation: str) -> Intro:
        """The instruction is the task; the home page shows nothing else."""
        _, found, rest = observation.partition(f"Instruction:{SEP}")
        if not found:
            return AnyText().intro(observation)
        task = rest.partition(SEP)[0].strip()
        return Intro(task, "", _brief(_LIMIT.sub(r" under \1", task)))

    def compact(self, observation: str) -> str:
        """Pages without instruction, buttons, ratings, commas and small words; of an item's page the options only, its
        title and price having stood among the results. A result's number ends its line, where a model that reads from
        left to right knows what it numbers.

        Of a result's price it is said whether it "fits" the limit of the instruction or is too "dear": a small model
        would take long to learn which numbers are larger than which.
        """
        return _compact(observation)

    def words(self) -> Iterable[str]:
        return webshop_words()

    def say(self, action: str, observation: str) -> str:
        """ "click[b0ab]" → "open 1", …; searches lose their small words, which the search engine leaves out as well."""
        page = read(observation)
        verb, found, argument = action.strip().partition("[")
        if page is None or not found or not argument.endswith("]"):
            return action
        argument = " ".join(argument[:-1].lower().split())
        if verb == "search":
            return f"search {_brief(argument)}"
        if verb != "click":
            return action
        if argument in _WORDS:
            return _WORDS[argument]
        numbers = [n for n, (asin, _, _) in enumerate(page.products, 1) if asin.lower() == argument]
        return f"open {numbers[0]}" if numbers else f"choose {argument}"

    def mean(self, said: str, observation: str) -> str:
        """ "open 1" → "click[b0ab]", …; an option is found also where its spaces differ ("2 xl" for "2xl")."""
        page = read(observation)
        if page is None:
            return said
        if said in _CLICKS:
            return _CLICKS[said]
        match = _SAID.fullmatch(said)
        verb, rest = match.groups() if match else ("", "")
        if verb == "search":
            words = _PREFIX.sub(r"<\1> ", rest)
            return f"search[{words}]"
        if verb == "open" and rest.isascii() and rest.isdigit() and 1 <= int(rest[:3]) <= len(page.products):
            return f"click[{page.products[int(rest[:3]) - 1][0].lower()}]"
        if verb == "choose":
            values = [text.lower() for text in page.texts] if page.name == "item" else []
            alike = [value for value in values if _squeezed(value) == _squeezed(rest)]
            return f"click[{rest if rest in values or not alike else alike[0]}]"
        return said


@lru_cache(maxsize=16384)
def read(observation: str) -> Page | None:
    """The page that an observation in mode `text` shows; None for any other text."""
    texts = observation.split(SEP)
    if texts[0] == "WebShop":
        return Page("home")
    if texts[0].startswith("Thank you for shopping"):
        return Page("done")
    if texts[0] != "Instruction:" or "Back to Search" not in texts:
        return None
    rest = texts[texts.index("Back to Search") + 1 :]
    if heading := _PAGE.fullmatch(rest[0] if rest else ""):
        start = rest.index("Next >") + 1 if "Next >" in rest else len(rest)
        return Page("results", int(heading[1]), tuple(_products(rest[start:])))
    if rest[-1:] == ["Buy Now"]:
        return Page("item", texts=tuple(rest[1:-_AFTER_OPTIONS]))
    return Page("text", texts=tuple(rest[1:]))


def _products(texts: list[str]) -> Iterable[tuple[str, str, str]]:
    """(asin, title, price tag); the price ends a product, wherever a title has odd parts or none."""
    start = 0
    for place, text in enumerate(texts):
        ends = place + 1 == len(texts) or _ASIN.fullmatch(texts[place + 1])
        if place > start and ends and _PRICE.fullmatch(text):
            yield texts[start], SEP.join(texts[start + 1 : place]), text
            start = place + 1


@lru_cache(maxsize=16384)
def _compact(observation: str) -> str:
    page = read(observation)
    if page is None:
        return observation.strip()
    if page.name == "results":
        found = _LIMIT.search(observation)
        limit = float(found[1]) if found else inf
        lines = [f"{_brief(title)} {fit(price, limit)} {n}" for n, (_, title, price) in enumerate(page.products, 1)]
        return "\n".join([f"results page {page.number}", *lines]) if lines else "no results"
    if page.name == "item":
        return f"item\n{', '.join(page.texts)}"
    return _brief(" ".join(page.texts)) if page.name == "text" else page.name


def fit(price_tag: str, limit: float) -> str:
    """ "fits" or "dear": whether a price in dollars is within the limit; of a range its lower end counts."""
    found = _PRICE.fullmatch(price_tag)
    try:
        return "dear" if found and float(found[1]) > limit else "fits"
    except ValueError:  # "$1.2.3"
        return "fits"


def _brief(text: str) -> str:
    return " ".join(_FILLER.sub("", text).split())


def _squeezed(text: str) -> str:
    return "".join(text.split())
