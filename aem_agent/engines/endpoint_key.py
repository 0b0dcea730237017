"""A key that shows up nowhere but in the header of a request."""

import logging
import os
import re
import weakref
from contextlib import suppress
from typing import Any, NoReturn

from aem_agent.types import EngineError

HIDDEN = "***"
SHORTEST = 8
"""Characters of a key that is masked. Servers that want none are given words such as EMPTY; to mask those would change
what models say."""
_LOGGERS = ("httpx", "httpcore", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))
_keys: "weakref.WeakSet[Key]" = weakref.WeakSet()


class Key:
    """Holds a key. Its representation does not, and it cannot be pickled or copied into anything else.

    While it lives, the loggers of the HTTP library leave it out too: at their most talkative they log what a server
    sends, and a server may repeat what it was sent.
    """

    __slots__ = ("__weakref__", "_escaped", "_value")

    def __init__(self, value: str) -> None:
        """Raises `EngineError` for what a header cannot hold; "" is no key."""
        if not (value.isascii() and value.isprintable()):  # httpx would quote it in its error
            raise EngineError("OPENAI_API_KEY holds characters that a header cannot")
        self._value = value
        self._escaped = _escaped(value)
        if len(value) >= SHORTEST:
            if not _keys:
                for name in _LOGGERS:
                    logging.getLogger(name).addFilter(_mask)
            _keys.add(self)

    @classmethod
    def from_environment(cls, *, needed: bool) -> "Key":
        """`$OPENAI_API_KEY`; raises `EngineError` if it is needed and not there."""
        value = os.environ.get("OPENAI_API_KEY", "").strip()
        if needed and not value:
            raise EngineError("no key for api.openai.com: set OPENAI_API_KEY, or name another endpoint with --base-url")
        return cls(value)

    def header(self) -> dict[str, str]:
        """What a request sends."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def masked(self, text: str) -> str:
        """`text` without the key, as it is or as any JSON text spells it."""
        if len(self._value) < SHORTEST:
            return text
        text = text.replace(self._value, HIDDEN)
        return self._escaped.sub(HIDDEN, text) if "\\" in text else text

    def __repr__(self) -> str:
        return f"Key({HIDDEN if self._value else 'none'})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key stays in its process")


def _escaped(value: str) -> re.Pattern[str]:
    r"""Finds `value` where some of its characters are escaped, as in `\/` or `\u002f`, once or several times over.

    It looks at no run of backslashes twice and never goes back: a hostile text costs no more than others.
    """
    parts = [r"(?<!\\)"]
    for c in re.findall(r"\\+|[^\\]", value):
        unit = "u" + "".join(f"[{x}{x.upper()}]" for x in f"{ord(c[0]):04x}")
        if c[0] == "\\":
            parts.append(rf"(?<!\\{unit})" * (len(parts) == 1) + rf"(?:\\++(?:{unit})?+)++")
        else:
            parts.append(rf"\\*+(?:{re.escape(c)}|{unit})")
    return re.compile("".join(parts))


def _mask(record: logging.LogRecord) -> bool:
    """A filter of loggers: changes records, and lets all pass."""
    with suppress(TypeError, ValueError):  # a message that does not fit its arguments is for its handler to tell
        message: Any = record.getMessage()
        for key in list(_keys):
            message = key.masked(message)
        record.msg, record.args = message, None
    return True
