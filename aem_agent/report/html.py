"""Self-contained HTML pages: one file, no script, no outside request, light and dark.

Everything that is not `Markup` is escaped when it enters a page, so a hostile text cannot become markup because someone
forgot it. The page's content security policy allows one thing: this room's own style sheet, by hash.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from aem_agent.files import open_to_read
from aem_envs.sanitize import cut, for_html

MAX_CELL = 2_000
"""Characters of a cell, a heading or a key figure shown at most."""


class Markup(str):
    """Finished HTML. Adding or joining keeps it so; plain strings are escaped as they are added."""

    __slots__ = ()

    def __add__(self, other: str) -> "Markup":
        return Markup(str.__add__(self, escape(other)))

    def __radd__(self, other: str) -> "Markup":
        return Markup(str.__add__(escape(other), self))

    def join(self, parts: Iterable[str]) -> "Markup":
        return Markup(str.join(self, map(escape, parts)))


def escape(value: object) -> Markup:
    """`value` as safe HTML: `Markup` as it is, anything else as sanitised and escaped text."""
    return value if isinstance(value, Markup) else Markup(for_html(str(value)))


def join(*parts: object) -> Markup:
    """All parts, escaped where they are not markup, one after the other."""
    return Markup("".join(map(escape, parts)))


def tag(name: str, *parts: object, **attributes: object) -> Markup:
    """`<name attributes>parts</name>`; `class_` is `class`, inner underscores become hyphens, None is left out."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    written = "".join(f' {key}="{escape(value)}"' for key, value in given.items())
    return Markup(f"<{name}{written}>{join(*parts)}</{name}>")


def _short(value: object) -> object:
    """Texts that are too long for where they stand, cut; markup and numbers as they are."""
    return value if isinstance(value, Markup | int | float) else cut(str(value), MAX_CELL)


def warning(line: str) -> Markup:
    """A paragraph that stands out."""
    return tag("p", _short(line), class_="warn")


def paragraph(*parts: object, note: bool = False) -> Markup:
    """A paragraph; `note` sets it small and soft."""
    return tag("p", *map(_short, parts), class_="note" if note else None)


def table(headers: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: Iterable[int] = ()) -> Markup:
    """A table. Columns whose index is in `numbers`, and all cells holding an int or a float, are aligned right."""
    right = set(numbers)

    def cell(name: str, column: int, value: object) -> Markup:
        is_number = column in right or (isinstance(value, int | float) and not isinstance(value, bool))
        return tag(name, _short(value), class_="number" if is_number else None)

    head = tag("tr", *(cell("th", i, h) for i, h in enumerate(headers)))
    body = [tag("tr", *(cell("td", i, v) for i, v in enumerate(row))) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def tiles(figures: Iterable[tuple[object, object, object]]) -> Markup:
    """Key figures as (name, value, detail) cards in a row."""

    def card(*parts: object) -> Markup:
        lines = zip(map(_short, parts), ("name", "value", "detail"))
        return tag("div", *(tag("div", part, class_=class_) for part, class_ in lines), class_="tile")

    return tag("div", *(card(*figure) for figure in figures), class_="tiles")


@cache
def _style() -> tuple[str, str]:
    """The style sheet and its CSP hash."""
    css = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    return css, base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()


_HEAD = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-",
    "'; base-uri 'none'; form-action 'none'\">\n",
)
"""How a document begins, but for the digest of its style sheet: whatever follows, it runs and loads nothing."""
_METAS = 4
"""All that `page` writes. One more could send the reader to another page, which the policy does not forbid."""
_MOST = 1 << 27
"""Bytes of a report that are looked at."""


def is_page(path: Path) -> bool:
    """Whether a file could be `page`'s: under its policy, by which nothing runs or loads, and going nowhere by itself.

    A link is none.
    """
    head = re.compile(f"{re.escape(_HEAD[0])}[A-Za-z0-9+/=]{{44}}{re.escape(_HEAD[1])}")
    try:
        if path.is_symlink():
            return False
        with open_to_read(path) as file:
            content = file.read(_MOST + 1)
        if len(content) > _MOST or content.lower().count(b"<meta") != _METAS:
            return False
        return head.match(content[:1000].decode("utf-8", "replace")) is not None
    except OSError:
        return False


def page(title: str, sections: Iterable[tuple[str, str]], *, subtitle: str = "", footer: str = "") -> str:
    """A whole document: a heading and (section heading, body) pairs; a section without heading follows the one before.

    Bodies made by this room's functions are `Markup`; a plain `str` is shown as text. No script, no network: the file
    can be mailed, and opened from disk.
    """
    css, digest = _style()
    body = join(
        tag("header", tag("h1", _short(title)), tag("p", _short(subtitle), class_="subtitle") if subtitle else ""),
        *(tag("section", tag("h2", _short(heading)) if heading else "", content) for heading, content in sections),
        tag("footer", footer) if footer else "",
    )
    return (
        f"{_HEAD[0]}{digest}{_HEAD[1]}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(_short(title))}</title>\n<style>{css}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
