"""One shopper's way through the shop: which page is open, what can be clicked, what a click or a search leads to."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from aem_envs.webshop.view import (
    BACK,
    BUY,
    NEXT,
    PER_PAGE,
    PREV,
    SEARCH,
    SEP,
    SUB_PAGES,
    PageName,
    View,
    page_line,
    plain_text,
    spaced,
)

if TYPE_CHECKING:
    from aem_envs.webshop.shop import ItemPage, Shop

QUERY_FORM = "search[<query>]"
"""How a search is listed among the admissible actions: its words are free."""

_BACK, _BUY, _NEXT, _PREV = (f"click[{button.lower()}]" for button in (BACK, BUY, NEXT, PREV))


class Session:
    """The state of one episode. Every attribute but `shop` is plain data; `hits` follows from `query`.

    `search` works on every page until something is bought; `click` on what `clickables` lists.
    """

    __slots__ = ("_head", "doc", "hits", "instruction", "number", "options", "page", "query", "salt", "shop", "visited")

    def __init__(self, shop: "Shop", instruction: str, salt: str) -> None:
        """`salt` seeds the random results of the query prefix <r>."""
        self.shop, self.instruction, self.salt = shop, instruction, salt
        self._head = spaced(["Instruction:", instruction, BACK])
        self.page: PageName = "home"
        self.doc = -1
        self._forget()

    def _forget(self) -> None:
        self.query, self.number = "", 0
        self.hits: Sequence[int] = ()
        self.options: dict[str, str] = {}
        self.visited: set[int] = set()

    def search(self, words: str) -> None:
        """Show the first page of results; chosen options are forgotten."""
        self.query, self.hits = words, self.shop.search(words, self.salt)
        self._results(1)

    def click(self, thing: str) -> bool:
        """Click what `thing` (lower case) names; False, and nothing happens, if the page has no such thing."""
        page = self.page
        if page == "results":
            return self._click_result(thing)
        if page in ("home", "done"):
            return False
        if thing == "back to search":
            self._home()
        elif page != "item":
            if thing != "< prev":
                return False
            self.page = "item"
        elif thing == "< prev":
            self._results(self.number)
        elif thing == "buy now":
            self.page = "done"
        elif thing in SUB_PAGES:
            self.page = thing
        elif (name := self.shop.item(self.doc).option_of.get(thing)) is not None:
            self.options[name] = thing
        else:
            return False
        return True

    def _click_result(self, thing: str) -> bool:
        if thing == "back to search":
            self._home()
        elif thing == "next >":
            self._results(self.number + 1)
        elif thing == "< prev" and self.number > 1:
            self._results(self.number - 1)
        else:
            for doc in self._shown():
                if self.shop.card(doc).key == thing:
                    self.page, self.doc = "item", doc
                    self.visited.add(doc)
                    return True
            return False
        return True

    def _home(self) -> None:
        self.page, self.doc = "home", -1
        self._forget()

    def _results(self, number: int) -> None:
        self.page, self.number, self.doc = "results", number, -1
        self.options = {}

    def _shown(self) -> Sequence[int]:
        start = (self.number - 1) * PER_PAGE
        return self.hits[start : start + PER_PAGE]

    @property
    def clickables(self) -> list[str]:
        """What can be clicked, lower case, in the original's order: buttons, product links, options; none twice.

        "search" on the home page is the form's button: it takes words, so clicking it does nothing.
        """
        if self.page == "home":
            return [SEARCH.lower()]
        return [action[6:-1] for action in self.actions() if action != QUERY_FORM]

    def actions(self) -> list[str]:
        """Every admissible action; a search is listed by its form, whose words are free."""
        page = self.page
        if page == "item":
            return self.shop.item(self.doc).actions.copy()
        if page == "results":
            links = [self.shop.card(doc).action for doc in self._shown()]
            buttons = [QUERY_FORM, _BACK, _NEXT] if self.number == 1 else [QUERY_FORM, _BACK, _PREV, _NEXT]
            return buttons + links
        if page == "done":
            return []
        return [QUERY_FORM] if page == "home" else [QUERY_FORM, _BACK, _PREV]

    def text(self) -> str:
        """Observation mode `text`: what `plain_text(self.view())` says, from parts kept per product."""
        if self.page == "item":
            return f"{self._head}{SEP}{PREV}{SEP}{self.shop.item(self.doc).text}"
        if self.page == "results":
            turns = NEXT if self.number == 1 else f"{PREV}{SEP}{NEXT}"
            start = f"{self._head}{SEP}{page_line(self.number, len(self.hits))}{SEP}{turns}"
            return SEP.join([start, *[self.shop.card(doc).text for doc in self._shown()]])
        return plain_text(self.view())

    def view(self, leak: str | None = None, original: bool = False) -> View:
        """The page as data."""
        if self.page == "home":
            return View("home", self.instruction, original=original)
        docs = self._shown() if self.page == "results" else [self.doc]
        return View(
            self.page,
            self.instruction,
            self.query,
            self.number,
            len(self.hits),
            tuple(self.shop.product(doc) for doc in docs),
            tuple(self.options.items()),
            frozenset(self.shop.card(doc).asin for doc in self.visited),
            leak,
            original,
        )

    def anchor(self, rich: bool = False) -> str:
        """Hash of the page, what led to it and the options chosen; `rich` adds which products were looked at,
        which some modes of observation mark."""
        known = (self.page, self.query, self.number, self.doc, sorted(self.options.items()))
        return blake2b(repr((known, sorted(self.visited)) if rich else known).encode(), digest_size=8).hexdigest()


def item_actions(page: "ItemPage") -> list[str]:
    """Admissible actions on an item's page."""
    buttons = [QUERY_FORM, _BACK, _PREV, *(f"click[{name}]" for name in SUB_PAGES), _BUY]
    return list(dict.fromkeys([*buttons, *(f"click[{value}]" for value in page.option_of)]))
