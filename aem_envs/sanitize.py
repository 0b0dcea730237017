"""Texts for people. Those of games, pages, commands and models are hostile: what they may do in a terminal or an HTML
page is nothing.
"""

import html
import re

# C0 and C1 controls except newline and tab, plus the Unicode marks that reorder or hide text, tags and annotations too.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f]"
)


def plain(text: str) -> str:
    """`text` with every control character made visible (ESC as `␛`, others as `\\xNN`): no escape sequence survives."""
    return _CONTROL.sub(lambda m: chr(0x2400 + ord(m[0])) if ord(m[0]) < 0x20 else f"\\x{ord(m[0]):02x}", text)


def has_controls(text: str) -> bool:
    """Whether `text` holds what `plain` would make visible."""
    return _CONTROL.search(text) is not None


def cut(text: str, most: int) -> str:
    """`text`, or its first `most` characters and how many more there are: a line of a megabyte is an attack, too."""
    return text if len(text) <= most else f"{text[:most]}… {len(text) - most} more characters"


def counted(n: int, noun: str) -> str:
    """ "1 game", "2 games"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def for_html(text: str) -> str:
    """`plain(text)`, escaped for use in HTML text and in quoted attributes."""
    return html.escape(plain(text), quote=True)
