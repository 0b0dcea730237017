"""What the generated shop can talk about: attributes of products and kinds of products, as plain records."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Mode = Literal["is", "has", "a", "of", "for"]
"""How a sentence takes an attribute: it is X, has X, has a X, is made of X, is good for X."""

_SMALL = frozenset({"a", "an", "and", "by", "for", "in", "of", "on", "the", "to", "with", "your"})
_ACRONYMS = {word.lower(): word for word in ("GMO", "HDMI", "LED", "TV", "USB")}


def proper(text: str) -> str:
    """`text` with acronyms in capitals."""
    return " ".join(_ACRONYMS.get(word, word) for word in text.split(" "))


def sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def headline(text: str) -> str:
    """`text` as a title writes it: every word but the small ones with a capital."""
    return " ".join(word if word in _SMALL else sentence_case(word) for word in proper(text).split(" "))


def article(phrase: str) -> str:
    """`phrase` behind "a" or "an", by its first sound."""
    sound = phrase.lower()
    vowel = sound.startswith("hdmi") or (sound[0] in "aeiou" and not sound.startswith("us"))
    return f"{'an' if vowel else 'a'} {phrase}"


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
        return article(self.phrase) if self.mode == "a" else self.phrase

    @cached_property
    def in_title(self) -> str:
        """As an item of a title's list."""
        return headline(f"for {self.phrase}" if self.mode == "for" else self.phrase)

    @cached_property
    def bullets(self) -> tuple[str, ...]:
        """Lines of the features page that say so."""
        heading = proper(f"for {self.phrase}" if self.mode == "for" else self.phrase)
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
                "has": f"{it} {have} {attribute.phrase}",
                "a": f"{it} {have} {attribute.with_article}",
            }[attribute.mode]
            table[attribute.phrase] = tuple(f"{proper(said)}: {reason}." for reason in attribute.reasons)
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
