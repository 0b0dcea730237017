"""How the sections' lists are written down: a shelf per section, a call per kind of product."""

from envs_data.webshop.attributes import ATTRIBUTES
from envs_data.webshop.vocabulary import Kind, article


def _split(text: str, separator: str = ";") -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())


class Shelf:
    """The kinds of one section, collected as they are declared."""

    def __init__(self, section: str, root: str) -> None:
        self.section = section
        self.root = root
        self.kinds: list[Kind] = []

    def sells(
        self,
        name: str,
        query: str,
        path: str,
        prices: tuple[int, int],
        *,
        titles: str,
        wanted: str,
        attributes: str,
        options: str,
        uses: str,
        about: str,
    ) -> None:
        """Declare a kind of product; lists are parted by semicolons, attributes and options by commas.

        Args:
            name: "a yoga mat" (also where it should be "an"), "some coffee", or "these shoes" (plural).
            query: as in `Product.query`.
            path: category path below the section's root.
            prices: dollars, cheapest and dearest.
            titles: title phrases.
            wanted: nouns of shoppers behind what goes before them: "a pair of: running shoes; some: sneakers".
            attributes: names from `ATTRIBUTES`.
            options: "color=shoes, size=shoe sizes": option names and pools.
            uses: what the kind is good for.
            about: true sentences.
        """
        determiner, _, noun = name.partition(" ")
        said = [part.partition(":") for part in _split(wanted)]
        offered = [part.partition("=") for part in _split(options, ",")]
        self.kinds.append(
            Kind(
                section=self.section,
                name=noun,
                plural=determiner == "these",
                one=article(noun) if determiner == "a" else noun,
                query=query,
                path=f"{self.root} › {path}",
                leads=_split(titles),
                wanted=tuple((before.strip(), thing.strip()) for before, _, thing in said),
                prices=prices,
                attributes=tuple(ATTRIBUTES[phrase] for phrase in _split(attributes, ",")),
                options=tuple((option, pool) for option, _, pool in offered),
                uses=_split(uses),
                about=_split(about),
            )
        )
