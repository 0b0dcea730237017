"""Pages as HTML: escaped, self-contained, and with every text of the text environment, in its order."""

import dataclasses
import re
from html.parser import HTMLParser
from random import Random

import pytest

import aem_envs
from aem_envs.webshop.html import Links, content_security_policy, page, style
from aem_envs.webshop.picture import picture
from aem_envs.webshop.view import SEARCH, View, pieces
from envs_data.webshop.product import Product

HOSTILE = "<script>alert('1')</script>\"&amp; é𝄞\r\n\u202e\u200b x"
SHIRT = Product(
    asin='B0"><b>',
    title=f"Blue shirt {HOSTILE}",
    description=HOSTILE,
    bullets=("", HOSTILE, "soft"),
    category="fashion",
    query="shirt",
    product_category=f"Clothing › {HOSTILE}",
    prices=(9.5,),
    price_tag="$9.5",
    options=((HOSTILE, (HOSTILE.lower(), "red")), ("size", ("red", " ", "m\u00a0l"))),
    attributes=(),
)
VIEWS = {
    "home": View("home", HOSTILE),
    "results": View("results", HOSTILE, HOSTILE, 2, 11, (SHIRT,), (), frozenset({SHIRT.asin})),
    "first": View("results", "i want", "shirt", 1, 0),
    "item": View("item", HOSTILE, HOSTILE, 1, 1, (SHIRT,), (("size", "red"),)),
    "description": View("description", HOSTILE, "shirt", 1, 1, (SHIRT,)),
    "features": View("features", HOSTILE, "shirt", 1, 1, (SHIRT,)),
    "reviews": View("reviews", HOSTILE, "shirt", 1, 1, (SHIRT,)),
    "done": View("done", HOSTILE, "shirt", 1, 1, (SHIRT,), ((HOSTILE, "red"),)),
    "leak": View("done", HOSTILE, "shirt", 1, 1, (SHIRT,), ((HOSTILE, "red"),), leak="0.5"),
}


class Reader(HTMLParser):
    """Numbered texts, and all tags with their attributes."""

    def __init__(self, source):
        super().__init__()
        self.texts, self.tags, self._open = {}, [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag not in ("meta", "link", "input", "br", "path", "rect", "circle"):
            self._open.append((tag, found))

    def handle_endtag(self, tag):
        if tag not in ("path", "rect", "circle"):
            assert self._open.pop()[0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        for _, found in self._open:
            if "data-n" in found:
                n = int(found["data-n"])
                self.texts[n] = (self.texts.get(n, ("",))[0] + data, found["data-kind"], "data-clicked" in found)

    def pieces(self):
        return [(text, kind) for _, (text, kind, _) in sorted(self.texts.items())]


def as_parsed(words):
    """HTML has no carriage return but by its number, which Python's parser replaces."""
    return words.replace("\r", "\n")


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("links", [None, Links(3, "a <b> notice", True)], ids=["plain", "served"])
def test_a_page_has_the_texts_of_the_text_environment_and_nothing_from_data_becomes_markup(name, links):
    view = VIEWS[name]
    source = page(view, links)
    read = Reader(source)
    wanted = [(as_parsed(text), kind) for text, kind in pieces(view)]
    assert [(as_parsed(text), kind) for text, kind in read.pieces()] == wanted
    assert list(read.texts) and sorted(read.texts) == list(range(len(wanted)))
    assert not read._open and source.startswith("<!doctype html>") and source.count("</html>") == 1
    tags = [tag for tag, _ in read.tags]
    assert "script" not in tags and "b" not in tags and not re.search(r"<b>|<script|\0", source)
    # nothing is loaded, and nothing runs
    for tag, attributes in read.tags:
        assert not any(attribute.startswith("on") for attribute in attributes), (tag, attributes)
        assert tag != "img" and "src" not in attributes and "style" not in attributes
        assert not attributes.get("href", "").startswith(("http", "//")), attributes
    assert "url(" not in style() and "@import" not in style()


@pytest.mark.parametrize("name", VIEWS)
def test_a_page_can_be_used_by_keyboard_and_on_a_phone(name):
    read = Reader(page(VIEWS[name], Links(0)))
    attributes = [found for _, found in read.tags]
    assert ("html", {"lang": "en"}) in read.tags and any("width=device-width" in str(found) for found in attributes)
    assert any(tag == "a" and found["href"] == "#main" for tag, found in read.tags), "a skip link"
    assert [tag for tag, _ in read.tags].count("h1") == 1
    fields = [found["id"] for tag, found in read.tags if tag == "input" and found.get("type") == "text"]
    assert fields == [found["for"] for tag, found in read.tags if tag == "label"]
    assert len(fields) == (VIEWS[name].page != "done"), "a search bar on every page but the last"
    for tag, found in read.tags:  # what can be clicked is a native button
        assert (found.get("data-kind") in (None, "text")) == (tag != "button" or "data-kind" not in found)
    ids = [found["id"] for found in attributes if "id" in found]
    assert len(ids) == len(set(ids))


def test_buttons_send_their_number_and_the_state():
    view = VIEWS["item"]
    read = Reader(page(view, Links(7)))
    buttons = [found for tag, found in read.tags if tag == "button" and "data-n" in found]
    assert buttons and all(found["value"] == found["data-n"] and found["form"] == "shop" for found in buttons)
    states = [found["value"] for tag, found in read.tags if tag == "input" and found["name"] == "state"]
    assert states == ["7", "7"], "one for clicks, one for the search bar"
    assert not [found for tag, found in Reader(page(view)).tags if tag == "button" and found.get("type") != "button"]
    search = [found for tag, found in Reader(page(VIEWS["home"], Links(0))).tags if found.get("data-kind") == "button"]
    assert len(search) == 1 and "value" not in search[0] and pieces(VIEWS["home"])[-1][0] == SEARCH


def test_what_was_clicked_is_marked():
    read = Reader(page(VIEWS["item"], Links(7)))
    assert [text for text, _, clicked in read.texts.values() if clicked] == ["red", "red"], "of equal values both"
    assert sum(found.get("aria-pressed") == "true" for _, found in read.tags) == 2
    assert [text for text, _, clicked in Reader(page(VIEWS["results"])).texts.values() if clicked] == [SHIRT.asin]


def test_hints_and_the_end():
    assert "Nothing was found" in page(VIEWS["first"])
    beyond = dataclasses.replace(VIEWS["first"], number=2, total=3)
    assert "There are no more products" in page(beyond)
    assert "Nobody has reviewed" in page(VIEWS["reviews"])
    assert "Next task" in page(VIEWS["done"], Links(1, next_task=True)) and "Next task" not in page(
        VIEWS["done"], Links(1)
    )
    over = page(VIEWS["item"], Links(1, next_task=True, over="The end: <15 steps>"))
    assert "The end: &lt;15 steps&gt;" in over and "Next task" in over and 'data-kind="option"' not in over


def test_the_policy_lets_the_style_in_and_nothing_else():
    assert "default-src 'none'" in content_security_policy() and "unsafe" not in content_security_policy()
    assert f"<style>{style()}</style>" in page(VIEWS["home"], Links(0)) and "<style" not in page(VIEWS["home"])


def test_pictures_are_the_products_own():
    assert picture(SHIRT) == picture(SHIRT) and "script" not in picture(SHIRT)
    assert 'fill="#3f74c4"' in picture(SHIRT), "a blue shirt"
    assert 'fill="#c43b3b"' in picture(SHIRT, (("color", "red"),)), "once red is chosen"
    plain = dataclasses.replace(SHIRT, title="Thing", query="", product_category="", category="")
    others = {picture(dataclasses.replace(plain, asin=str(number))) for number in range(20)}
    assert 2 < len(others) < 20


def test_the_html_mode_shows_every_page_of_a_walk():
    env = aem_envs.make_env("aem/WebShop-v0", observation_mode="html", max_steps=999)
    observation, info = env.reset(seed=1)
    rng, seen = Random(1), set()
    for _ in range(250):
        read = Reader(observation)
        assert " [SEP] ".join(text.strip() for text, _ in read.pieces()) == info["raw_obs"]
        seen.add(env.session.page)
        actions = [action for action in info["admissible_actions"] if action != "click[buy now]"]
        action = rng.choice(actions)
        observation, *_, info = env.step("search[shirt]" if action.startswith("search") else action)
    assert len(seen) >= 5
