"""Pages of the shop as HTML documents: for people, for the browser environment, and for agents that read HTML.

Every text of `view.pieces` is in its own element, which says where it comes in their order (`data-n`) and what it is
(`data-kind`): the layout is for people, the numbers let a program read the texts that the text environment has. Pages
have no scripts and refer to nothing outside themselves. All text is escaped, whatever it came from.
"""

from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files

from aem_envs.webshop.picture import picture
from aem_envs.webshop.view import (
    BACK,
    BUY,
    NEXT,
    NO_RATING,
    PREV,
    SEARCH,
    SUB_PAGES,
    View,
    bullets,
    clicked,
    done_texts,
    label,
    page_line,
    shown,
)
from envs_data.webshop.product import Product

SHOP = "WebShop"
CLICK, QUERY, STATE, NEXT_TASK = "click", "q", "state", "next"
"""Names of the fields that pages send: number of the piece clicked, words searched for, the page's state, next task."""

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E"
    "%3Cpath fill='%230a5f8f' d='M1 3h6v4H1z'/%3E%3C/svg%3E"
)


@dataclass(frozen=True, slots=True)
class Links:
    """What makes a page work: with it buttons send forms to the server that the page came from."""

    state: int
    """Number of the state that the page shows; a server ignores what is sent from an older one."""
    notice: str = ""
    """A line for the shopper, such as why a click did nothing."""
    next_task: bool = False
    """The last page offers another task."""
    over: str = ""
    """The episode has ended without a purchase: why. Nothing else can be done."""


def page(view: View, links: Links | None = None) -> str:
    """One complete HTML document; without `links` a plain one to be read: no style, no pictures, nothing to send."""
    sheet = _Sheet(view, links)
    body = _over(view, sheet) if links and links.over else _BODIES.get(view.page, _sub_page)(view, sheet)
    title = view.products[0].title if len(view.products) == 1 and view.page != "results" else view.query
    state = "" if links is None else f' data-state="{links.state}"'
    form = f'<form method="post" action="do" id="shop">{sheet.state}</form>' if links else ""
    notice = f'<p class="notice" role="status">{text(links.notice)}</p>' if links and links.notice else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{text(f"{title} - {SHOP}" if title else SHOP)}</title><link rel="icon" href="{_ICON}">\n'
        f'{sheet.style}</head>\n<body data-page="{view.page}"{state}>\n'
        f'<a class="skip" href="#main">Skip to the page</a>{form}\n{sheet.head}\n'
        f'<main id="main" class="wide" tabindex="-1">{notice}\n{body}\n</main>\n</body></html>\n'
    )


@cache
def style() -> str:
    """The style sheet that pages carry."""
    return files("aem_envs.webshop").joinpath("shop.css").read_text("utf-8")


@cache
def content_security_policy() -> str:
    """What pages may load: their own style and icon, and nothing else; forms go to their own server only."""
    digest = b64encode(sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def text(words: str) -> str:
    """`words` escaped for HTML text and quoted attributes; read back by a browser they are the same."""
    return escape(words.replace("\0", "\ufffd"), quote=True).replace("\r", "&#13;")


class _Sheet:
    """Makes the elements of one page. Those of `view.pieces` must be made in its order: they are numbered so."""

    def __init__(self, view: View, links: Links | None) -> None:
        self.view, self.links = view, links
        self._count = 0
        self.style = f"<style>{style()}</style>" if links else ""
        self.state = f'<input type="hidden" name="{STATE}" value="{links.state}">' if links else ""
        brand = self.text(SHOP, "p", "brand") if view.page == "home" else f'<p class="brand">{SHOP}</p>'
        task = ""
        if view.page == "done" or (links and links.over):
            search = ""
        else:
            task = (
                '<section class="task" aria-label="Your task"><p class="wide">'
                f"{self.text(label(view), 'strong')} {self.text(view.instruction, 'span')}</p></section>"
            )
            search = self._search()
        self.head = f'<header><div class="wide">{brand}{search}</div>{task}</header>'

    def text(self, words: str, tag: str, css: str = "") -> str:
        """A visible text of the page."""
        words = shown(words, self.view.original)
        return f"<{tag}{_class(css)}{self._mark(words, 'text')}>{text(words)}</{tag}>"

    def button(
        self, words: str, css: str = "", kind: str = "button", clicked: bool = False, newest: bool = False
    ) -> str:
        """A thing to click: a button, a product's link or an option. `clicked`: it was already; `newest`: just now."""
        number, words = self._count, shown(words, self.view.original)
        mark = self._mark(words, kind) + (" data-clicked" if clicked else "")
        if kind == "option":
            mark += f' aria-pressed="{"true" if clicked else "false"}"'
        if newest and self.links:
            mark += " autofocus"  # the new page goes on where the old one was left
        sends = f'type="submit" form="shop" name="{CLICK}" value="{number}"' if self.links else 'type="button"'
        return f"<button {sends}{_class(css)}{mark}>{text(words)}</button>"

    def picture(self, product: Product) -> str:
        """A drawing, in the colour that was chosen."""
        return picture(product, self.view.chosen) if self.links else ""

    def next_task(self) -> str:
        """A button to the next task, where there is one."""
        if self.links is None or not self.links.next_task:
            return ""
        return f'<button type="submit" form="shop" name="{NEXT_TASK}" value="1" class="main">Next task</button>'

    def _search(self) -> str:
        # on the home page the button is one of the page's pieces, elsewhere the shop's own; the words are for both
        at_home = self.view.page == "home"
        mark = self._mark(SEARCH, "button") if at_home else ""
        sends = 'method="post" action="do"' if self.links else ""
        return (
            f'<form class="search" role="search" {sends}>{self.state}'
            f'<label class="hidden" for="q">Search the shop</label><input id="q" name="{QUERY}" type="text" '
            f'value="{text(self.view.query)}" placeholder="What are you looking for?" required inputmode="search" '
            f'autocomplete="off" autocapitalize="none" spellcheck="false"{" autofocus" if at_home else ""}>'
            f'<button type="{"submit" if self.links else "button"}" class="main"{mark}>{SEARCH}</button></form>'
        )

    def _mark(self, words: str, kind: str) -> str:
        if not words:  # `view.pieces` leaves these out
            return ""
        self._count += 1
        return f' data-n="{self._count - 1}" data-kind="{kind}"'


def _class(css: str) -> str:
    return f' class="{css}"' if css else ""


def _home(view: View, sheet: _Sheet) -> str:
    # the header, which is made first, has the text "Search" last
    return (
        '<div class="hero"><svg viewBox="0 0 96 96" aria-hidden="true" fill="currentColor" class="soft">'
        '<path d="M20 34h56l6 50H14z"/><path d="M34 34a14 14 0 0 1 28 0h-5a9 9 0 0 0-18 0z"/></svg>'
        '<h1>Welcome! Find what the instruction asks for.</h1><p class="soft">Search for it, look at the products, '
        "choose their options, and buy the one that fits.</p></div>"
    )


def _results(view: View, sheet: _Sheet) -> str:
    back = sheet.button(BACK)
    heading = sheet.text(page_line(view.number, view.total), "h1")
    turns = (sheet.button(PREV) if view.number > 1 else "") + sheet.button(NEXT)
    cards = "\n".join(_card(product, view, sheet) for product in view.products)
    hint = "There are no more products." if view.total else "Nothing was found. Try fewer words, or other ones."
    found = f'<ul class="cards">{cards}</ul>' if cards else f'<p class="notice">{hint}</p>'
    return (
        f'<nav class="trail" aria-label="Where you are">{back}'
        f'<span class="soft">Results for “<bdi>{text(view.query)}</bdi>”</span></nav>'
        f'{heading}<br>{found}<nav class="turns" aria-label="Pages">{turns}</nav>'
    )


def _card(product: Product, view: View, sheet: _Sheet) -> str:
    link = sheet.button(product.asin, kind="link", clicked=product.asin in view.visited)
    title, price = sheet.text(product.title, "p", "title"), sheet.text(product.price_tag, "p", "price")
    return f'<li class="card">{sheet.picture(product)}{title}{price}{link}</li>'


def _item(view: View, sheet: _Sheet) -> str:
    (product,) = view.products
    trail = _trail(product, sheet)
    groups = "".join(_group(name, values, view, sheet) for name, values in product.options)
    title, price = sheet.text(product.title, "h1"), sheet.text(f"Price: {product.price_tag}", "p", "price")
    rating = sheet.text(NO_RATING, "p", "soft")
    tabs = "".join(sheet.button(name.capitalize()) for name in SUB_PAGES)
    buy = sheet.button(BUY, "buy")
    chosen = ", ".join(f"{name}: {value}" for name, value in view.chosen)
    summary = f'<p role="status" class="soft">Chosen: {text(chosen)}</p>' if chosen else ""
    return (
        f'{trail}<article class="item">{sheet.picture(product)}<div class="facts">{title}{price}{rating}{groups}'
        f'{summary}{buy}<nav class="tabs" aria-label="About the product">{tabs}</nav></div></article>'
    )


def _group(name: str, values: tuple[str, ...], view: View, sheet: _Sheet) -> str:
    chosen = clicked(view)
    legend = sheet.text(name, "legend")
    buttons = "".join(
        sheet.button(value, "option", "option", value in chosen, (name, value) in view.chosen[-1:]) for value in values
    )
    return f'<fieldset>{legend}<div class="group">{buttons}</div></fieldset>'


def _trail(product: Product, sheet: _Sheet) -> str:
    back, prev = sheet.button(BACK), sheet.button(PREV)
    return (
        f'<nav class="trail" aria-label="Where you are">{back}{prev}<span class="soft">{text(product.product_category)}'
        "</span></nav>"
    )


def _sub_page(view: View, sheet: _Sheet) -> str:
    (product,) = view.products
    trail = _trail(product, sheet)
    if view.page == "description":
        content = sheet.text(product.description, "p")
    elif view.page == "features":
        content = (
            f"<ul>{''.join(sheet.text(bullet, 'li') for bullet in bullets(view) if shown(bullet, view.original))}</ul>"
        )
    else:
        content = '<p class="soft">Nobody has reviewed this product yet.</p>'
    return (
        f'{trail}<article class="item">{sheet.picture(product)}<div class="facts">'
        f'<h1>{view.page.capitalize()}</h1><p class="soft">{text(product.title)}</p>'
        f'<div class="text">{content}</div></div></article>'
    )


def _done(view: View, sheet: _Sheet) -> str:
    thanks, *leaked = done_texts(view)
    heading = sheet.text(thanks, "h1")
    bought = "".join(f'{sheet.picture(product)}<p class="soft">{text(product.title)}</p>' for product in view.products)
    rest = "".join(sheet.text(words, "p") for words in leaked)
    return f'<div class="thanks">{heading}{bought}{rest}{sheet.next_task()}</div>'


def _over(view: View, sheet: _Sheet) -> str:
    assert sheet.links is not None
    return f'<div class="thanks"><h1>{text(sheet.links.over)}</h1>{sheet.next_task()}</div>'


_BODIES = {"home": _home, "results": _results, "item": _item, "done": _done}
