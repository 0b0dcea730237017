"""Pages of the shop as data, and as the two texts that agents read. `html` makes the third form of them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from envs_data.webshop.product import Product

PageName = Literal["home", "results", "item", "description", "features", "reviews", "done"]
SUB_PAGES: tuple[PageName, ...] = ("description", "features", "reviews")

SEARCH, BACK, NEXT, PREV, BUY = "Search", "Back to Search", "Next >", "< Prev", "Buy Now"
NO_RATING = "Rating: N.A."
THANKS = "Thank you for shopping with us!"
PER_PAGE = 10
"""Products on a page of results."""

SEP = " [SEP] "
_ASCII_BLANKS = " \t\n\f\r"
_NOT_IN_HTML = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&'"}
"""JSON within HTML, as the original writes it."""


@dataclass(frozen=True, slots=True)
class View:
    """What a shopper sees. Fields that a page does not show are empty."""

    page: PageName
    instruction: str
    query: str = ""
    """The words searched for."""
    number: int = 0
    """Page of results, from 1."""
    total: int = 0
    """Results in all."""
    products: tuple[Product, ...] = ()
    """Results on this page; or the one product of an item page and its sub-pages."""
    chosen: tuple[tuple[str, str], ...] = ()
    """(option name, value) in the order chosen."""
    visited: frozenset[str] = frozenset()
    """Asins of the item pages seen since the last visit to the home page."""
    leak: str | None = None
    """The score, on the done page of `compat="original"`; else None."""
    original: bool = False
    """Blanks and marks as the original's pages have them: see `shown` and `clicked`."""


Piece = tuple[str, Literal["text", "button", "option", "link"]]


def pieces(view: View) -> list[Piece]:
    """The visible texts of a page in reading order, each with what it is; see `shown` for blank ones."""
    head: list[Piece] = [(label(view), "text"), (view.instruction, "text")]
    match view.page:
        case "home":
            found: list[Piece] = [("WebShop", "text"), *head, (SEARCH, "button")]
        case "done":
            found = [(text, "text") for text in done_texts(view)]
        case "results":
            turns: list[Piece] = [(PREV, "button"), (NEXT, "button")]
            found = [*head, (BACK, "button"), (page_line(view.number, view.total), "text"), *turns[view.number == 1 :]]
            for product in view.products:
                found += [(product.asin, "link"), (product.title, "text"), (product.price_tag, "text")]
        case _:
            found = [*head, (BACK, "button"), (PREV, "button"), *_product_pieces(view)]
    return [(text, kind) for words, kind in found if (text := shown(words, view.original))]


def shown(text: str, original: bool) -> str:
    """What is seen of a text; "" if nothing.

    A blank text is not seen. In the original it is, as one blank, unless there is a line break in it.
    """
    if text.strip() or (original and text.strip(_ASCII_BLANKS)):
        return text
    return " " if original and text and "\n" not in text else ""


def label(view: View) -> str:
    """What stands before the instruction."""
    return "Instruction: " if view.original and view.page == "home" else "Instruction:"


def bullets(view: View) -> tuple[str, ...]:
    """Lines of a features page."""
    (product,) = view.products
    return tuple(f" {bullet}" for bullet in product.bullets) if view.original else product.bullets


def _product_pieces(view: View) -> list[Piece]:
    (product,) = view.products
    if view.page == "description":
        return [(product.description, "text")]
    if view.page == "features":
        return [(bullet, "text") for bullet in bullets(view)]
    if view.page == "reviews":
        return []  # there are none in any catalogue
    found: list[Piece] = []
    for name, values in product.options:
        found += [(name, "text"), *((value, "option") for value in values)]
    found += [(product.title, "text"), (f"Price: {product.price_tag}", "text"), (NO_RATING, "text")]
    return [*found, *((name.capitalize(), "button") for name in SUB_PAGES), (BUY, "button")]


def page_line(number: int, total: int) -> str:
    """Heading of a page of results."""
    return f"Page {number} (Total results: {total})"


def plain_text(view: View) -> str:
    """Observation mode `text`: visible texts, separated."""
    return joined(pieces(view))


def joined(found: Sequence[Piece]) -> str:
    """Texts of a page as the mode `text` writes them."""
    return SEP.join(text.strip() for text, _ in found)


def spaced(texts: Iterable[str]) -> str:
    """Texts as the mode `text` writes them, blank ones left out."""
    return SEP.join([text.strip() for text in texts if text.strip()])


def instruction(page: str) -> str:
    """The instruction on a page in mode `text`."""
    return page.partition(f"Instruction:{SEP}")[2].partition(SEP)[0]


def rich_text(view: View) -> str:
    """Observation mode `text_rich`: a line for each visible text, buttons marked, those already used marked as such."""
    return marked(pieces(view), clicked(view))


def clicked(view: View) -> frozenset[str]:
    """Products and options marked as clicked.

    The original takes an option for clicked if it is, in quotes, in the page's address: those with other letters than
    ASCII never are, an option called like its group always is.
    """
    if view.page != "item":
        return view.visited
    if not view.original:
        return frozenset(value for _, value in view.chosen)
    address = url(view, "")
    return frozenset(v for _, values in view.products[0].options for v in values if f'"{v}"' in address)


def marked(found: Sequence[Piece], clicked: frozenset[str]) -> str:
    """Texts of a page as the mode `text_rich` writes them; `clicked` are the options chosen and the products seen."""
    lines, notes = [], []
    for text, kind in found:
        name = "clicked button" if text in clicked else "button"
        if kind == "button":
            lines.append(f"[button] {text} [button_]\n")
        elif kind == "option":
            lines.append(f"  [{name}] {text} [{name}_]\n")
            if text in clicked:
                notes.append(f"You have clicked {text}.\n")
        elif kind == "link":
            lines.append(f"\n[{name}] {text} [{name}_]\n")
        else:
            lines.append(f"{text}\n")
    return "".join([*reversed(notes), *lines])


def url(view: View, session: str) -> str:
    """Observation mode `url`: the address that the original gives the page; `session` names the episode in it."""
    words = "+".join(view.query.split(" "))
    name, asin = view.page.capitalize(), view.products[0].asin if view.products else ""
    chosen = dict(view.chosen)
    match view.page:
        case "home":
            path = session
        case "results":
            path = f"search_results/{session}/{words}/{view.number}"
        case "item":
            path = f"item_page/{session}/{asin}/{words}/{view.number}/{json.dumps(chosen)}"
        case "done":
            path = f"done/{session}/{asin}/{chosen}"
        case _:
            path = f"item_sub_page/{session}/{asin}/{words}/{view.number}/{name}/{chosen}"
    return f"http://127.0.0.1:3000/{path}"


def done_texts(view: View) -> list[str]:
    """Visible texts of the last page."""
    if view.leak is None:
        return [THANKS]
    (product,) = view.products
    chosen = json.dumps(dict(view.chosen), sort_keys=True).translate(_NOT_IN_HTML)
    unknown = ["attrs", "None", "category", "None", "query", "None", "product category", "None"]
    target = ["asin", "options", "attrs", "price upper", "instuction text", "category", "product category", "query"]
    return [
        *(THANKS, "Your code: ", "None", " (Paste it in your MTurk interface.)", "Purchased", "asin", product.asin),
        *("options", chosen, *unknown, "Target", *target, "Goal ", "None", "Reward"),
        *("Your score (min 0.0, max 1.0)", view.leak, "Reward Details ", "None"),
    ]
