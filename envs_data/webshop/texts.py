"""Titles, features and descriptions of generated products."""

from collections.abc import Callable, Iterator, Sequence

from envs_data.webshop.vocabulary import Attribute, Kind, headline

BRANDS: dict[str, tuple[str, ...]] = {
    section: tuple(names.split())
    for section, names in {
        "beauty": "Lumessa Veloria Fennay Solwyn Marivel Ossenne Pelline Dewra Calista Brisel Tamsel Orvanne",
        "garden": "Hearthen Oakmere Lindow Fernholt Brackwell Stonlea Marlowen Tilbury Ashgrove Penrow Daleby",
        "grocery": "Grainley Sunmill Harvo Oatfield Nutmere Bramblo Tastara Millow Coveley Savorin Picklow Berrin",
        "electronics": "Voltrix Nexora Zentia Kyvox Ampero Lumitek Orbix Trivonic Quantel Sonary Datron Pixelo",
        "fashion": "Norvale Trelise Calvesta Wrenly Haldane Mirabo Stridell Oslette Lorvane Penway Quillon Bexley",
    }.items()
}
"""Section → brands, all invented."""

_NOTES: dict[str, tuple[str, ...]] = {
    "beauty": (
        "Small enough for every bathroom shelf.",
        "Please keep out of reach of children.",
        "A thoughtful present for a birthday.",
        "Not sure about it? Send it back within thirty days.",
    ),
    "garden": (
        "Colors may look a little different on your screen.",
        "Packed with care so that it reaches you whole.",
        "A good present for a new home.",
        "Write to us if anything is broken, we will help you at once.",
    ),
    "grocery": (
        "Store in a cool place.",
        "Please read the label before you eat or drink.",
        "Share it with friends or keep it all to yourself.",
        "Not happy with the taste? We will pay you back.",
    ),
    "electronics": (
        "In the box you will find a short manual.",
        "Our support team answers within one day.",
        "Two years of warranty are part of the price.",
        "A clever present for anyone who likes gadgets.",
    ),
    "fashion": (
        "Please look at the chart before you order.",
        "Colors may look a little different on your screen.",
        "A nice present for a birthday or a holiday.",
        "Does it not fit? Send it back within thirty days.",
    ),
}
"""Section → lines of features that say little, as shops have them."""


def title(kind: Kind, brand: str, attributes: Sequence[Attribute], use: str, random: Callable[[], float]) -> str:
    """Brand, kind, and some attributes (at least one); sometimes what it is for."""
    lead = kind.leads[int(random() * len(kind.leads))]
    first, *rest = attributes
    draw = random()
    if draw < 0.35:
        start, rest = f"{brand} {lead}", [*attributes]
    elif draw < 0.6 and first.before:
        start = f"{brand} {first.in_title} {lead}"
    elif draw < 0.8 and not first.before:
        start = f"{brand} {lead} {first.in_title if first.purpose else 'with ' + headline(first.with_article)}"
    else:
        start, rest = f"{lead} by {brand}", [*attributes]
    items = [attribute.in_title for attribute in rest]
    if random() < 0.25:
        items.append(headline(f"for {use}"))
    return ", ".join([start, *items])


def bullets(
    kind: Kind, attributes: Sequence[Attribute], about: Sequence[str], random: Callable[[], float]
) -> tuple[str, ...]:
    """Four or five lines: one for each attribute given (at most four), the rest of no use to the choice."""
    lines = []
    for attribute in attributes:
        said = attribute.bullets
        lines.append(said[int(random() * len(said))])
    notes = _NOTES[kind.section]
    lines += [f"{sentence}." for sentence in about]
    lines.append(notes[int(random() * len(notes))])
    turn = int(random() * len(lines))
    return tuple(lines[turn:] + lines[:turn])


def description(
    kind: Kind,
    brand: str,
    attributes: Sequence[Attribute],
    uses: Sequence[str],
    about: str,
    random: Callable[[], float],
) -> str:
    """An opening sentence, one for each attribute given, one about the kind."""
    openers = kind.openers
    opener = openers[int(random() * len(openers))]
    said = [opener % {"brand": brand, "use": uses[0], "other": uses[1]}]
    for attribute in attributes:
        sentences = kind.sentences[attribute.phrase]
        said.append(sentences[int(random() * len(sentences))])
    said.append(about)
    return " ".join(said)


def all_words() -> Iterator[str]:
    """Texts that hold every word of pages but kinds' and attributes' own."""
    yield from (brand for brands in BRANDS.values() for brand in brands)
    yield from (note for notes in _NOTES.values() for note in notes)
    yield "by with for"
