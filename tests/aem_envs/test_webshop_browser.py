"""`aem/WebShopBrowser-v0`: equal to the text environment on every page."""

import copy
import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from browsers import made, place

import aem_envs
from aem_envs.core import BadOptionError, ResetNeededError
from aem_envs.webshop.browser.process import BrowserMissingError

ROOT = Path(__file__).resolve().parents[2]
__all__ = ["place"]  # a fixture of every test here

ODD_QUERIES = [
    'search[men\'s "shirt"]',
    "search[<script>alert(1)</script>]",
    "search[&amp; &lt; %20 + a=b;c#d?]",
    "search[кофе 咖啡 café ñ]",
    "search[𝄞 🎧 headphones]",
    "search[\u202eevil\u202c \u200b shirt]",
    "search[\ue007 \uf8ff shirt]",  # the driver's own names of keys
    "search[  black   shoes  ]",
    "search[ ]",
    "search[tab\tand\nline\rbreaks\x00\x01]",
    "search[/etc/passwd]",  # a file's name is typed, not uploaded
    "search[<r> x]",
    "search[<r> a\nb]",
    "search[<c> beauty]",
    "search[<q> men's hoodies]",
    "search[<q> nothing]",
    "search[<c>]",
    "search[[nested] brackets]",
    "search[" + "long " * 1900 + "query]",
    "search[" + "x" * 9_000 + "]",
    "search[İSTANBUL ẞ]",
]
INVALID = [
    "",
    "look",
    "search[]",
    "click[]",
    "click[nothing]",
    "click[search]",
    "Search[shirt]",
    "buy[it]",
    "click[ ]",
    None,
]


class Pair:
    """The two environments side by side; every step is compared."""

    def __init__(self, **settings):
        self.page = made(**settings)
        self.text = aem_envs.make_env("aem/WebShop-v0", **settings)
        self.actions, self.pages = 0, set()

    def reset(self, **how):
        self.info = self.same(self.page.reset(**how), self.text.reset(**how))[-1]

    def step(self, action):
        self.actions += 1
        record = self.same(self.page.step(action), self.text.step(action), action)
        self.info = record[-1]
        self.pages.add(self.text.session.page)
        return record

    def same(self, seen, wanted, action="reset"):
        assert seen[:-1] == wanted[:-1], f"after {action!r:.80}"
        for key in wanted[-1].keys() - {"engine"}:
            assert seen[-1][key] == wanted[-1][key], f"info[{key!r}] after {action!r:.80}"
        return wanted

    def close(self):
        self.page.close()
        self.text.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["text", "text_rich", "url"])
def test_every_step_equals_the_text_environments(mode):
    """Over 200 actions in mode text: walks, odd queries from every page, invalid actions, paging beyond the end."""
    pair = Pair(max_steps=1000, observation_mode=mode)
    try:
        pair.reset(seed=3)
        rng, odd = random.Random(3), iter(ODD_QUERIES + INVALID)
        for number in range({"text": 150, "text_rich": 40, "url": 16}[mode]):
            if number % 4 == 3 and (action := next(odd, "")) != "":
                pair.step(action)
            elif number % 12 == 0:
                pair.step("search[women shoes]" if number % 24 else "search[black]")
            else:
                listed = [
                    name
                    for name in pair.info["admissible_actions"]
                    if name not in ("click[buy now]", "search[<query>]")
                ]
                pair.step(rng.choice(listed or ["search[shirt]"]))
        if mode == "text":
            for action in odd:
                pair.step(action)
        pair.step("search[bed sheets]")
        for _ in range(6):
            pair.step("click[next >]")  # 50 results are five pages
        pair.step("click[< prev]")
        assert pair.step("click[back to search]")[-1]["action_valid"]
        for task in pair.text.task_ids("test", 6):
            pair.reset(options={"task_id": task})
            pair.step(f"search[<q> {pair.text.store.product(pair.text.store.find(pair.text.goal.asin)).query}]")
            pair.step(next(name for name in pair.info["admissible_actions"] if name.startswith("click[b0")))
            values = [value for _, group in pair.text.session.view().products[0].options for value in group[:2]]
            for thing in [*values, "Description", "< prev", "features", "< PREV", "reviews", "< prev", "Buy Now"]:
                record = pair.step(f"click[{thing}]")
            assert record[2], "bought"
        assert pair.pages == {"home", "results", "item", "description", "features", "reviews", "done"}
        assert pair.actions >= (200 if mode == "text" else 60)
    finally:
        pair.close()


@pytest.mark.slow
def test_the_originals_quirks_and_snapshots():
    pair = Pair(compat="original")
    try:
        pair.reset(seed=1)
        pair.step("search[shirt]")
        state = pair.text.get_state()
        assert pair.page.get_state() == state
        pair.step(pair.info["admissible_actions"][-1])
        *_, info = pair.step("click[buy now]")
        assert "Your score" in info["raw_obs"] and pair.page.get_state() == pair.text.get_state()
        bought = pair.text.get_state()
        for env in (pair.page, pair.text):
            env.set_state(state)
        pair.step("click[next >]")
        other = made(compat="original")
        other.set_state(bought)
        assert "Your score" in other._observe()[0] and other.get_state() == bought
        other.close()
        pair.step("click[< prev]")
    finally:
        pair.close()


ODD_TEXTS = [
    '<script>alert(1)</script> & "hat"',
    "two  spaces\tand a tab",
    "line\nbreak\r\nand cr\rx",
    "nbsp\u00a0x\u200bzero\u200dwidth\ufeff",
    "emoji 🎧𝄞 \u202eover",
    "  padded  ",
    "controls \u0001\u001b[31m \u0085 \u2028",
    "&amp; &lt; &#13; %20",
    "\u001c odd blanks \u00a0",
]


@pytest.fixture(scope="module")
def odd_goods(tmp_path_factory):
    """Official files of products whose every text is odd."""
    items, instructions = [], {}
    for number, text in enumerate(ODD_TEXTS):
        asin = f"B0ODD{number:05d}"
        values = [[text, "same", "buy now", "x/y"], ["same", "Description", ""]]
        items.append(
            {
                "name": text,
                "asin": asin,
                "category": "beauty",
                "query": "odd things",
                "images": [],
                "full_description": f"{text} \n\n {text}",
                "product_category": f"Beauty › {text}",
                "small_description": [text, "", f"{text} b"],
                "pricing": "$1.0$9.99",
                "customization_options": {
                    name: [{"value": value} for value in group] for name, group in zip((text, "second"), values)
                },
            }
        )
        instructions[asin] = {"attributes": ["soft"], "instruction": f"Find {text}", "instruction_attributes": ["soft"]}
    folder = tmp_path_factory.mktemp("odd")
    (folder / "items_shuffle_1000.json").write_text(json.dumps(items), "utf-8")
    (folder / "items_ins_v2_1000.json").write_text(json.dumps(instructions), "utf-8")
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("compat", [None, "original"])
def test_odd_texts_of_products_are_read_as_they_are(odd_goods, compat):
    settings = {"source": "official", "goals": "synthetic", "tagger": "lexicon", "data": odd_goods}
    pair = Pair(observation_mode="text_rich", compat=compat, max_steps=1000, **settings)
    try:
        pair.reset(seed=1)
        for number in range(len(ODD_TEXTS)):
            pair.step("search[<q> odd things]")
            pair.step(f"click[b0odd{number:05d}]")
            for action in pair.info["admissible_actions"][7:]:
                assert pair.step(action)[-1]["action_valid"] or compat  # the original reads some wrongly
            for thing in ("description", "< prev", "features", "< prev"):
                pair.step(f"click[{thing}]")
    finally:
        pair.close()


@pytest.mark.slow
def test_html_is_the_pages_source_and_pictures_are_its_pixels():
    env = made(observation_mode="html", render_mode="rgb_array", window="390x700")
    try:
        with pytest.raises(ResetNeededError):
            env.render()
        observation, _ = env.reset(seed=1)
        assert observation.startswith("<!DOCTYPE html>") and 'data-state="0"' in observation
        assert "<style" not in observation and "<svg" not in observation and "http" not in observation
        again, _ = env.reset(seed=1)
        assert again == observation, "no token, no port"
        home = env.render()
        assert home.shape == (700, 390, 3) and home.dtype == np.uint8 and len(np.unique(home)) > 20
        observation, *_, info = env.step("search[black shoes]")
        assert f">{info['admissible_actions'][-1][6:-1].upper()}</button>" in observation.replace("data-clicked", "")
        assert not np.array_equal(env.render(), home)
    finally:
        env.close()
    with pytest.raises(ResetNeededError):
        env.render()


def test_settings_are_checked():
    made().close()
    for settings in (
        {"window": (1, 1)},
        {"window": "big"},
        {"port": -1},
        {"port": True},
        {"page_timeout": 0},
        {"chromium": 5},
    ):
        with pytest.raises(BadOptionError):
            made(**settings)
    with pytest.raises(BrowserMissingError, match="apt-get install chromium"):
        aem_envs.make_env("aem/WebShopBrowser-v0", chromium="no-such-browser")
    with pytest.raises(BrowserMissingError, match="chromedriver=PATH"):
        aem_envs.make_env("aem/WebShopBrowser-v0", chromedriver="/no/such/driver")


def test_a_missing_package_is_named(monkeypatch):
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "selenium" else there(name, *rest)
    )
    with pytest.raises(BrowserMissingError, match=r"selenium not installed: pip install .aem-suite\[webshop\]"):
        aem_envs.make_env("aem/WebShopBrowser-v0")


def test_it_cannot_be_copied():
    env = made()
    for attempt in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied"):
            attempt(env)
