"""An episode's page and way as plain data, and back, checked."""

from typing import Any

from aem_envs.actions import MAX_ACTION
from aem_envs.core import BadStateError
from aem_envs.snapshot import within
from aem_envs.webshop.session import Session
from aem_envs.webshop.view import SUB_PAGES

_KEYS = {"page": str, "query": str, "number": int, "asin": str, "options": list, "visited": list}
_MAX_QUERY = 2 * MAX_ACTION
"""Lower case can be twice as long: "İ" becomes two characters."""
_ON_ITEM = ("item", *SUB_PAGES, "done")
_MAX_VISITED = 100_000


def plain_state(session: Session) -> dict[str, Any]:
    """Strings, numbers and lists that `restore` takes."""
    card = session.shop.card
    return {
        "page": session.page,
        "query": session.query,
        "number": session.number,
        "asin": card(session.doc).asin if session.doc >= 0 else "",
        "options": [list(pair) for pair in session.options.items()],
        "visited": sorted(card(doc).asin for doc in session.visited),
    }


def restore(session: Session, plain: dict[str, Any]) -> None:
    """Bring a new session to the state of `plain_state`.

    Raises:
        BadStateError: no state that a session of this shop can be in.
    """
    if plain.keys() != _KEYS.keys() or any(type(plain[key]) is not kind for key, kind in _KEYS.items()):
        raise BadStateError(f"the snapshot's 'session' holds exactly: {', '.join(_KEYS)}")
    page, query, asin = plain["page"], plain["query"], plain["asin"]
    if page not in ("home", "results", *_ON_ITEM):
        raise BadStateError(f"the snapshot's 'page' is no page of the shop: {page[:40]!r}")
    if (page == "home") != (query == "") or len(query) > _MAX_QUERY or (page in _ON_ITEM) != (asin != ""):
        raise BadStateError(f"the snapshot's 'query' or 'asin' does not belong on the page {page!r}")
    number = within(plain["number"], int(page != "home"), 0 if page == "home" else MAX_ACTION, "number")
    doc = _doc(session, asin) if asin else -1
    options = _options(session, doc, plain["options"])
    if len(plain["visited"]) > _MAX_VISITED or not all(isinstance(name, str) for name in plain["visited"]):
        raise BadStateError("the snapshot's 'visited' is not a list of asins")
    visited = {_doc(session, name) for name in plain["visited"]}
    try:
        query.encode()
    except UnicodeEncodeError:
        raise BadStateError("the snapshot's 'query' is not valid Unicode") from None
    if query:
        session.search(query)
    session.page, session.number, session.doc, session.options, session.visited = page, number, doc, options, visited


def _doc(session: Session, asin: str) -> int:
    doc = None if any("\ud800" <= letter <= "\udfff" for letter in asin) else session.shop.store.find(asin)
    if doc is None:
        raise BadStateError(f"the snapshot's product {asin[:20]!r} is not in this shop")
    return doc


def _options(session: Session, doc: int, pairs: list[Any]) -> dict[str, str]:
    known = session.shop.item(doc).option_of if doc >= 0 else {}
    options: dict[str, str] = {}
    for pair in pairs:
        if not (
            isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], str) and known.get(pair[1]) == pair[0]
        ):
            raise BadStateError("the snapshot's 'options' are not those of its product")
        options[pair[0]] = pair[1]
    return options
