"""Nouns of product titles, for the reward's title score: by spaCy as the original does, or by a lexicon.

spaCy's own models are on no package index, so the lexicon of the textblob wheel stands in where there is none. The two
agree on most words, not on all: say which one a score was made with (`Tagger.name`).
"""

import re
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal, Protocol

from envs_data.errors import DataUnavailableError

TaggerName = Literal["auto", "spacy", "lexicon"]
SPACY_MODEL = "en_core_web_sm"
"""The model of the original's reward."""

# Near to spaCy's own cuts: hyphens, slashes between words, possessives and units come off; "13.5", "3/4", "L'Oréal" and
# "802.11ac" stay whole.
_UNITS = "cm|dm|ft|gb|gr|hr|in|kb|kg|km|lb|lbs|mb|mg|mi|ml|mm|oz|tb|yd|am|pm|g|m"
_NUMBER = r"(?>\d+(?:[.,/]\d+)*)"
_WORD = r"\w+(?:'(?!s\b)\w+|[.&]\w+)*"
_TOKEN = re.compile(rf"{_NUMBER}(?=(?:{_UNITS})\b)|{_NUMBER}(?!\w)|'s\b|{_WORD}|[^\w\s]", re.IGNORECASE)


class Tagger(Protocol):
    """Finds nouns."""

    name: str
    """Kind and version, such as "lexicon-0.20.1"; part of cache names, so without blanks and slashes."""

    def nouns(self, title: str) -> tuple[str, ...]:
        """Lower-cased common and proper nouns in order, with repeats (the score divides by how many there are)."""
        ...


class SpacyTagger:
    """spaCy's small English model, as the original."""

    def __init__(self) -> None:
        self.name = f"spacy-{_version('spacy')}-{_version(SPACY_MODEL)}"

    def nouns(self, title: str) -> tuple[str, ...]:
        """See `Tagger.nouns`.

        Raises:
            DataUnavailableError: spaCy or its model cannot be loaded.
        """
        return tuple(token.text.lower() for token in _spacy_model()(title) if token.pos_ in ("NOUN", "PROPN"))


class LexiconTagger:
    """textblob's tagger (lexicon, word endings, a few rules of context): all of it is inside the wheel."""

    def __init__(self) -> None:
        self.name = f"lexicon-{_version('textblob')}"

    def nouns(self, title: str) -> tuple[str, ...]:
        """See `Tagger.nouns`.

        Raises:
            DataUnavailableError: textblob cannot be loaded.
        """
        tagged = _lexicon().find_tags(_TOKEN.findall(title.replace("’", "'")))
        # what the lexicon does not know it takes for a noun, signs such as "™" too
        return tuple(word.lower() for word, tag in tagged if tag.startswith("NN") and any(map(str.isalpha, word)))


def pick_tagger(name: str = "auto") -> Tagger:
    """The tagger of this kind, or with this `Tagger.name`; "auto": spaCy where it and its model are installed.

    Quick: nothing is imported before the first title.

    Raises:
        DataUnavailableError: not installed, or not in this version; says what to install.
    """
    kind = name.split("-", 1)[0]
    if kind == "auto":
        kind = "spacy" if find_spec("spacy") and find_spec(SPACY_MODEL) else "lexicon"
    if kind not in ("spacy", "lexicon"):
        raise DataUnavailableError(f"no noun tagger is called {name!r}: choose auto, spacy or lexicon")
    tagger: Tagger = SpacyTagger() if kind == "spacy" else LexiconTagger()
    if "-" in name and tagger.name != name:
        raise DataUnavailableError(f"the noun tagger {name} is asked for, {tagger.name} is installed")
    return tagger


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise _missing(package) from error


@cache
def _spacy_model() -> Any:
    try:
        # faster without names and lemmas; the parser stays: the model's rules make auxiliaries by it
        return import_module("spacy").load(SPACY_MODEL, exclude=["ner", "lemmatizer"])
    except (ImportError, OSError) as error:
        raise DataUnavailableError(f"spaCy or its model cannot be loaded ({error}); choose tagger lexicon") from error


@cache
def _lexicon() -> Any:
    try:
        return import_module("textblob.en").parser
    except ImportError as error:
        raise _missing("textblob") from error


def _missing(package: str) -> DataUnavailableError:
    how = (
        "pip install aem-suite[webshop]" if package == "textblob" else f"pip install spacy and its model {SPACY_MODEL}"
    )
    return DataUnavailableError(f"nouns of titles: {package} is not installed; {how}")
