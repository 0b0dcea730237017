"""What the generated shop can talk about: attributes of products and kinds of products, as plain records."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Mode = Literal["is", "has", "a", "of", "for", "the"]
"""How a sentence takes an attribute: it is X, has X, has a X, is made of X, is good for X, is good for the X."""

_SMALL = frozenset({"a", "an", "and", "by", "for", "in", "of", "on", "the", "to", "with", "your"})
_ACRONYMS = {word.lower(): word for word in ("GMO", "HDMI", "LED", "TV", "USB")}

_PLURAL = {"does": "do", "goes": "go", "passes": "pass"} | {
    f"{verb}s": verb
    for verbs in (
        "bend bring close come feel fit fold get grow help keep last leave lift",
        "look make repair slip stay stop take use weigh work",
    )
    for verb in verbs.split()
}
"""Verbs that a reason may begin with."""


def proper(text: str) -> str:
    """`text` with acronyms in capitals."""
    return " ".join(_ACRONYMS.get(word, word) for word in text.split(" "))


def _agreeing(reason: str) -> str:
    """`reason` after "They are": a verb at its start in the plural."""
    verb, _, rest = reason.partition(" ")
    return f"{_PLURAL.get(verb, verb)} {rest}"


def sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def headline(text: str) -> str:
    """`text` as a title writes it: every word but the small ones with a capital."""
    return " ".join(word if word in _SMALL else sentence_case(word) for word in proper(text).split(" "))


def article(phrase: str) -> str:
    """`phrase` behind "a" or "an", by its first sound."""
    sound = phrase.lower()
    vowel = sound.startswith(("hdmi", "led ")) or (sound[0] in "aeiou" and not sound.startswith("us"))
    return f"{'an' if vowel else 'a'} {phrase}"


NOT_NOUNS = frozenset(
    word
    for words in (
        "a absorbent absorbing adjustable after aging an and artificial assemble at backlit bare big braided brave",
        "breathable bringing broad busy by cancelling carry certified charging chewy clean cold combing cool cozy",
        "crispy curly curved daily damaged dancing dark darkening de detachable detangling digital dining drawing",
        "dried dry drying dual early easy eat efficient elastic electric empty every expandable extra fair fast faux",
        "fed fine flat fold for free fresh freshly friendly full gaming genuine glossy ground heavy herbal hidden",
        "high hooded hot hyaluronic iced if in individually indoor install instant insulated it large lasting late",
        "lazy leave light lightweight little live living long loose loud low magnetic matte mechanical mixed muddy",
        "natural new no non nosy of oily old on one only operated organic outdoor outside over own padded painted",
        "paraben picked plantar plated playing popped portable pressed printed proof pure quick quiet rainy reading",
        "ready real rechargeable recycled removable rented resealable resistant reversible roasted rough round",
        "running sad sensitive short silent slim slow small smart soft solid sonic sore sparkling stainless stormy",
        "stretching striped sturdy swimming synthetic tall tempered the thermal thin tinted tired to twice two ultra",
        "under use virgin waiting walking warm washable washed washing weighted wet whole wicking wide wireless with",
        "without wooden working woven wrapped young your",
    )
    for word in words.split()
)
"""Words of generated titles that are no nouns. Those of a possessive ("Women's") are none either: they only limit."""


@dataclass(frozen=True)
class Attribute:
    """One thing that may be true of a product, and how the shop and its customers say it."""

    phrase: str
    """Lower case, said the same way everywhere: the reward looks for these very words."""
    mode: Mode
    reasons: tuple[str, ...]
    """What is good about it: sentences without a capital or a full stop."""

    @cached_property
    def before(self) -> bool:
        """Whether it can stand before the noun: "non slip shoes"."""
        return self.mode in ("is", "of")

    @cached_property
    def with_article(self) -> str:
        return article(self.phrase) if self.mode == "a" else f"the {self.phrase}" if self.mode == "the" else self.phrase

    @cached_property
    def purpose(self) -> bool:
        """Whether it says what the product is good for."""
        return self.mode in ("for", "the")

    @cached_property
    def item(self) -> str:
        """In a list of wishes: "non slip", "a rubber sole", "for the living room"."""
        return f"for {self.with_article}" if self.purpose else self.with_article

    @cached_property
    def in_title(self) -> str:
        """In a title's list."""
        return headline(f"for {self.phrase}" if self.purpose else self.phrase)

    @cached_property
    def bullets(self) -> tuple[str, ...]:
        """Lines of the features page that say so."""
        heading = proper(self.item if self.purpose else self.phrase)
        plain = [f"{sentence_case(heading)}: {reason}." for reason in self.reasons]
        return (*plain, *(f"{sentence_case(self.in_title)} - {sentence_case(reason)}." for reason in self.reasons))


@dataclass(frozen=True)
class Kind:
    """One kind of product: what every product of the kind has in common."""

    section: str
    name: str
    """As a sentence calls it: "yoga mat", "running shoes"."""
    plural: bool
    one: str
    """`name` with the article it takes, if any: "a yoga mat", "running shoes"."""
    query: str
    path: str
    leads: tuple[str, ...]
    """Title phrases that name it."""
    wanted: tuple[tuple[str, str], ...]
    """(article or measure, noun) as shoppers say it: ("a pair of", "running shoes")."""
    prices: tuple[int, int]
    """Dollars: the cheapest and the dearest products of the kind, roughly."""
    attributes: tuple[Attribute, ...]
    options: tuple[tuple[str, str], ...]
    """(option name, name of the pool of values)."""
    uses: tuple[str, ...]
    """What it is good for: "the gym"."""
    about: tuple[str, ...]
    """Sentences that are true of all of the kind."""

    @cached_property
    def sentences(self) -> dict[str, tuple[str, ...]]:
        """Attribute phrase → sentences of a description that say the product has it."""
        it, are, have = ("They", "are", "have") if self.plural else ("It", "is", "has")
        table = {}
        for attribute in self.attributes:
            said = {
                "is": f"{it} {are} {attribute.phrase}",
                "of": f"{it} {are} made of {attribute.phrase}",
                "for": f"{it} {are} made for {attribute.phrase}",
                "the": f"{it} {are} made for the {attribute.phrase}",
                "has": f"{it} {have} {attribute.phrase}",
                "a": f"{it} {have} {attribute.with_article}",
            }[attribute.mode]
            reasons = attribute.reasons
            if self.plural and attribute.mode not in ("has", "a"):
                reasons = tuple(map(_agreeing, reasons))
            table[attribute.phrase] = tuple(f"{proper(said)}: {reason}." for reason in reasons)
        return table

    @cached_property
    def openers(self) -> tuple[str, ...]:
        """First sentences of a description, with %(brand)s, %(use)s and %(other)s to fill in."""
        these, are = ("These", "are") if self.plural else ("This", "is")
        return (
            f"{these} {self.name} by %(brand)s {are} made for %(use)s and %(other)s.",
            f"%(brand)s presents {self.one} for %(use)s.",
            f"Looking for {self.one}? {these} %(brand)s {self.name} {are} right for %(use)s and %(other)s.",
            f"From %(use)s to %(other)s: {these.lower()} {self.name} {are} ready for all of it.",
            f"Our customers like {these.lower()} {self.name} best for %(use)s.",
            f"%(brand)s designed {these.lower()} {self.name} with %(use)s in mind.",
        )
