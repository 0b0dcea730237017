"""Nouns of titles: the taggers, and which one is picked."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs_data.errors import DataUnavailableError
from envs_data.webshop import nouns as nouns_module
from envs_data.webshop.nouns import LexiconTagger, SpacyTagger, pick_tagger


@pytest.fixture
def lexicon() -> LexiconTagger:
    pytest.importorskip("textblob", reason="textblob is not installed (the webshop extra)")
    return LexiconTagger()


@pytest.mark.parametrize(
    ("title", "nouns"),
    [
        ("the table and the tables", "table tables"),
        ("red shoes for red shoes", "shoes shoes"),  # repeats stay
        ("Women's High-Heel Pumps/Shoes", "women high heel pumps shoes"),  # title case reads as a name, as in spaCy
        ("Mother’s bag", "mother bag"),
        ("Shampoo (13.5 oz), 3/4 cup & 2kg ™ ®", "shampoo oz cup kg"),  # numbers and signs are none
        ("802.11ac router", "802.11ac router"),
        ("L'Oréal cream", "l'oréal cream"),
        ("L’Oréal cream", "l'oréal cream"),
        ("it is very quickly", ""),
        ("", ""),
        (" \n ", ""),
        ("123 456 !!!", ""),
    ],
)
def test_lexicon(lexicon: LexiconTagger, title: str, nouns: str) -> None:
    assert lexicon.nouns(title) == tuple(nouns.split())


@given(st.text())
def test_lexicon_takes_any_text(title: str) -> None:
    pytest.importorskip("textblob")
    found = LexiconTagger().nouns(title)
    assert all(noun == noun.lower() and noun.strip() for noun in found)
    assert found == LexiconTagger().nouns(title)


def test_lexicon_needs_no_downloaded_data(tmp_path: object) -> None:
    """A fresh process whose data folder of nltk is empty, and which may open no socket."""
    pytest.importorskip("textblob")
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from envs_data.webshop.nouns import LexiconTagger\n"
        "print(*LexiconTagger().nouns('oak table'))"
    )
    environment = {"NLTK_DATA": str(tmp_path), "HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["oak", "table"], done.stderr


def _installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    def find(name: str) -> str | None:
        return versions.get(name)

    def look_up(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(nouns_module, "find_spec", find)
    monkeypatch.setattr(nouns_module, "version", look_up)


def test_auto_takes_spacy_where_it_and_its_model_are(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, spacy="3.8.0", en_core_web_sm="3.8.1", textblob="0.20.1")
    assert pick_tagger().name == "spacy-3.8.0-3.8.1" == pick_tagger("spacy-3.8.0-3.8.1").name
    assert pick_tagger("lexicon").name == "lexicon-0.20.1"
    _installed(monkeypatch, spacy="3.8.0", textblob="0.20.1")
    assert pick_tagger().name == "lexicon-0.20.1" == pick_tagger("lexicon-0.20.1").name
    with pytest.raises(DataUnavailableError, match="en_core_web_sm is not installed; pip install spacy and its model"):
        pick_tagger("spacy")
    with pytest.raises(DataUnavailableError, match=r"lexicon-0\.1 is asked for, lexicon-0\.20\.1 is installed"):
        pick_tagger("lexicon-0.1")
    with pytest.raises(DataUnavailableError, match="choose auto, spacy or lexicon"):
        pick_tagger("nltk")
    _installed(monkeypatch)
    with pytest.raises(DataUnavailableError, match=r"textblob is not installed; pip install aem-suite\[webshop\]"):
        pick_tagger()


def test_picking_imports_nothing_heavy() -> None:
    code = "import sys; from envs_data.webshop.nouns import pick_tagger\ntry: pick_tagger()\nexcept Exception: pass\n"
    code += "print(sorted({'spacy', 'textblob', 'nltk', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_spacy_counts_common_and_proper_nouns(monkeypatch: pytest.MonkeyPatch) -> None:
    def model(title: str) -> list[SimpleNamespace]:
        tags = {"Oak": "PROPN", "table": "NOUN", "nice": "ADJ"}
        return [SimpleNamespace(text=word, pos_=tags.get(word, "X")) for word in title.split()]

    _installed(monkeypatch, spacy="3.8.0", en_core_web_sm="3.8.0")
    monkeypatch.setattr(nouns_module, "_spacy_model", lambda: model)
    assert SpacyTagger().nouns("nice Oak table or Oak") == ("oak", "table", "oak")


def test_spacy_that_does_not_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, exclude: list[str]) -> None:
        raise OSError(f"cannot read {name}")

    nouns_module._spacy_model.cache_clear()
    monkeypatch.setattr(nouns_module, "import_module", lambda name: SimpleNamespace(load=load))
    with pytest.raises(DataUnavailableError, match=r"cannot read en_core_web_sm.*choose tagger lexicon"):
        nouns_module._spacy_model()


def test_real_spacy_model() -> None:
    pytest.importorskip("en_core_web_sm", reason="spaCy's model is not installed")
    tagger = SpacyTagger()
    assert tagger.name == f"spacy-{version('spacy')}-{version('en_core_web_sm')}"
    assert set(tagger.nouns("A wooden table with two drawers")) == {"table", "drawers"}
