"""A shop of a few products made by hand, odd ones among them, for tests of the shop's own rules."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from aem_envs.webshop.shop import Shop
from aem_envs.webshop.store import Store, build_store
from envs_data.webshop.product import Entry, Goal, Instruction, Product


def product(asin: str, title: str, **changes: object) -> Product:
    fields: dict[str, object] = {
        "asin": asin,
        "title": title,
        "description": f"All about {title}.",
        "bullets": ("Made well", "Lasts long"),
        "category": "fashion",
        "query": "shirts",
        "product_category": "Clothing › Shirts",
        "prices": (20.0,),
        "price_tag": "$20.0",
        "options": (("color", ("red", "navy blue")), ("size", ("small", "large"))),
        "attributes": ("machine wash",),
    }
    return Product(**{**fields, **changes})  # type: ignore[arg-type]


SHIRTS = [
    product(f"B00SHIRT{n:02d}", f"Plain shirt number {n}", prices=(10.0 + n,), price_tag=f"${10.0 + n}")
    for n in range(12)
]
MARKUP = '<script>alert(1)</script> & "hat"'
ODD = [
    product("B000SCRIPT", MARKUP, category="garden", query="hats", options=(("<b>", ("<i>x</i>", "a & b")),)),
    product(
        "B0000TWICE", "Same lamp", query="lamps", options=(("color", ("red", "same")), ("shade", ("same", "blue")))
    ),
    product("B000BUTTON", "Kite", query="kites", options=(("kind", ("description", "buy now", "next >")),)),
    product("b0000lower", "Boat", query="boats", prices=(5.0, 15.0), price_tag="$5.0 to $15.0", options=()),
    product("B0000BLANK", "Spoon", query="spoons", description="", bullets=("",), options=(("size", ("", "a | b")),)),
]
PRODUCTS = [*ODD[:3], *SHIRTS, *ODD[3:]]


class SmallCatalogue:
    """All of `PRODUCTS`, each with one human and one synthetic instruction."""

    name = "small"
    splits = ("train", "dev", "test")
    data_hash = "0123456789abcdef"

    def entries(self) -> Iterator[Entry]:
        for found in PRODUCTS:
            values = tuple(values[-1] for _, values in found.options)
            human = Instruction(f"i want {found.query} with machine wash.", ("machine wash",), values)
            synthetic = Instruction(f"Find me machine wash {found.query}", ("machine wash",), ())
            yield Entry(found, (human,), synthetic)

    def arrange(self, goals: list[Goal]) -> tuple[list[Goal], Mapping[str, range]]:
        ends = {"test": range(4), "dev": range(4, 6), "train": range(6, len(goals))}
        return goals, {name: ends[name] for name in self.splits}

    def nouns(self, title: str) -> tuple[str, ...]:
        return tuple(title.lower().split())


def small_shop(folder: Path, kind: str = "human") -> Shop:
    folder.mkdir(parents=True)
    build_store(folder, SmallCatalogue(), kind, lambda title: (), "vocabulary", lambda done: None)  # type: ignore[arg-type]
    return Shop(Store(folder))
