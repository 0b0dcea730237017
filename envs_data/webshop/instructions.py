"""What shoppers write when they look for a product: sentences in the manner of crowd workers, without the price."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from envs_data.webshop.product import Instruction
from envs_data.webshop.vocabulary import Attribute, Kind, article

Wish = tuple[str, str]
"""(option name, value) that a shopper asks for."""


class Shape(NamedTuple):
    """A way to ask: a frame around the product and the options, each said in one of a few styles."""

    frame: str
    """%s is the product."""
    product: str
    """"np": all in one noun phrase; "that": relative clause; "should" and "sure": a second sentence; "list": commas."""
    options: str
    """"in": behind the noun; "say": a sentence of their own; "list": bare, after commas."""


SHAPES: tuple[Shape, ...] = (
    Shape("i need %s", "np", "in"),
    Shape("i am looking for %s", "np", "in"),
    Shape("i'm looking for %s", "that", "say"),
    Shape("find me %s", "np", "in"),
    Shape("i want to buy %s", "np", "say"),
    Shape("can you find me %s", "np", "in"),
    Shape("looking for %s", "should", "say"),
    Shape("i would like %s", "np", "in"),
    Shape("a friend of mine needs %s", "np", "in"),
    Shape("please get me %s", "np", "say"),
    Shape("i'd like to order %s", "that", "in"),
    Shape("do you have %s", "np", "in"),
    Shape("show me %s", "np", "say"),
    Shape("i am in need of %s", "np", "in"),
    Shape("hello, i need %s", "that", "say"),
    Shape("help me find %s", "np", "in"),
    Shape("need %s", "list", "list"),
    Shape("i'm shopping for %s", "np", "say"),
    Shape("get me %s", "that", "in"),
    Shape("i want %s", "sure", "say"),
    Shape("searching for %s", "np", "in"),
    Shape("i have been looking for %s", "np", "say"),
    Shape("i am trying to find %s", "that", "in"),
    Shape("where can i get %s", "np", "in"),
    Shape("what i need is %s", "np", "say"),
    Shape("buy %s", "np", "in"),
    Shape("i am interested in %s", "that", "say"),
    Shape("im looking to purchase %s", "np", "list"),
    Shape("today i want %s", "list", "say"),
    Shape("i need to find %s", "should", "say"),
    Shape("my mother asked me for %s", "np", "in"),
    Shape("i am searching for %s", "sure", "say"),
    Shape("i want %s", "list", "in"),
    Shape("would you find %s for me", "np", "say"),
)

_IN: dict[str, tuple[str, ...]] = {
    "color": ("in %s", "in the color %s", "in %s color"),
    "size": ("in size %s", "in a size %s", "in the %s size"),
    "flavor": ("in %s flavor", "in the flavor %s", "with %s flavor"),
    "scent": ("in %s scent", "with the scent %s"),
    "pack": ("in a %s", "as a %s"),
    "style": ("in %s style", "in the style %s"),
}
_SAY: dict[str, tuple[str, ...]] = {
    "color": ("the color should be %s", "i prefer the color %s", "i would like it in %s"),
    "size": ("the size should be %s", "i need size %s", "size %s please"),
    "flavor": ("the flavor should be %s", "i like the %s flavor", "i prefer %s flavor"),
    "scent": ("the scent should be %s", "i like the %s scent"),
    "pack": ("i prefer the %s", "it should be the %s"),
    "style": ("the style should be %s", "i prefer the %s style"),
}
_LIST: dict[str, tuple[str, ...]] = {
    "color": ("color %s", "%s color"),
    "size": ("size %s",),
    "flavor": ("%s flavor",),
    "scent": ("%s scent",),
    "pack": ("%s",),
    "style": ("%s style", "style %s"),
}
OPTION_NAMES = tuple(_IN)


def _joined(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _predicate(attributes: Iterable[Attribute], be: str, have: str) -> str:
    """ "is non slip and has arch support", with the forms of the verbs given."""
    being, having = [], []
    for attribute in attributes:
        if attribute.mode == "is":
            being.append(attribute.phrase)
        elif attribute.mode == "of":
            being.append(f"made of {attribute.phrase}")
        elif attribute.purpose:
            being.append(f"good for {attribute.with_article}")
        else:
            having.append(attribute.with_article)
    said = [f"{be} {_joined(being)}"] if being else []
    return " and ".join([*said, f"{have} {_joined(having)}"] if having else said)


def _behind(determiner: str, phrase: str) -> str:
    return article(phrase) if determiner == "a" else f"{determiner} {phrase}".lstrip()


def _product(kind: Kind, wanted: tuple[str, str], attributes: Sequence[Attribute], style: str) -> str:
    """The product and what it must be, in one of the styles of `Shape.product`."""
    determiner, noun = wanted
    if style == "np":
        before = ", ".join(attribute.phrase for attribute in attributes if attribute.before)
        having = [attribute.with_article for attribute in attributes if attribute.mode in ("has", "a")]
        purposes = [attribute.with_article for attribute in attributes if attribute.purpose]
        phrase = _behind(determiner, f"{before} {noun}".lstrip())
        phrase += f" for {_joined(purposes)}" if purposes else ""
        return f"{phrase} with {_joined(having)}" if having else phrase
    bare = _behind(determiner, noun)
    it, be, have = ("they", "are", "have") if kind.plural else ("it", "is", "has")
    if style == "that":
        return f"{bare} that {_predicate(attributes, be, have)}"
    if style == "should":
        return f"{bare}. {it} should {_predicate(attributes, 'be', 'have')}"
    if style == "sure":
        return f"{bare}. make sure {it} {_predicate(attributes, be, have)}"
    return f"{bare}, {', '.join([attribute.item for attribute in attributes])}"


def _options(wishes: Sequence[Wish], style: str, random: Callable[[], float]) -> str:
    """What is said of the options, with all that parts it from the words before."""
    if not wishes:
        return ""
    table = _IN if style == "in" else _SAY if style == "say" else _LIST
    said = []
    for name, value in wishes:
        forms = table[name]
        said.append(forms[int(random() * len(forms))] % value)
    if style == "in":
        return " " + (" and " if random() < 0.5 else ", ").join(said)
    return f". {_joined(said)}" if style == "say" else f", {', '.join(said)}"


def human(
    kind: Kind, attributes: Sequence[Attribute], wishes: Sequence[Wish], shape: int, random: Callable[[], float]
) -> Instruction:
    """An instruction in the manner of people; `random` draws the words, `shape` picks one of `SHAPES`."""
    frame, product, options = SHAPES[shape]
    wanted = kind.wanted[int(random() * len(kind.wanted))]
    text = frame % _product(kind, wanted, attributes, product) + _options(wishes, options, random)
    return Instruction(text, tuple([a.phrase for a in attributes]), tuple([value for _, value in wishes]))


def synthetic(kind: Kind, attributes: Sequence[Attribute]) -> Instruction:
    """The instruction that every combination of options is appended to."""
    phrases = tuple([attribute.phrase for attribute in attributes])
    return Instruction(f"Find me {', '.join(phrases)} {kind.query}", phrases, ())


def all_words() -> Iterator[str]:
    """Texts that hold every word of instructions but attributes, products and values."""
    for shape in SHAPES:
        yield shape.frame % ""
    for table in (_IN, _SAY, _LIST):
        for forms in table.values():
            for form in forms:
                yield form % ""
    yield "Find me a an that is has are have made of good for with it they should be make sure and"
