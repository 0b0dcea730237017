"""The web shop's pages and actions in a small model's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aem_agent.env_texts import Intro, env_text
from aem_agent.model.tokenizers import train_tokenizer
from aem_agent.model.vocabulary import webshop_words
from aem_agent.prompter import TextPrompter
from aem_agent.prompts import PlainFullSpec, PlainSpec, ThinkActionSpec
from aem_agent.types import Response
from aem_agent.webshop_text import WebshopText, fit, read
from aem_envs.webshop.view import PageName, View, plain_text, rich_text
from envs_data.webshop.product import Product

SHOP = "aem/WebShop-v0"
INSTRUCTION = "i need a non slip shoe in navy blue, and price lower than 40.00 dollars"


def product(
    asin: str = "B0AB12CD34", title: str = "Lumo Running Shoes, Non Slip by the Sea", **more: object
) -> Product:
    fields: dict[str, object] = {
        "description": "They are made for the gym.",
        "bullets": ("Non slip: you stand, and stay.", "For everyone."),
        "options": (("color", ("red", "navy blue")), ("size", ("2xl", "8.5 (wide)"))),
        "price_tag": "$23.5",
        **more,
    }
    return Product(asin, title, category="fashion", query="shoes", product_category="A › B", prices=(23.5,),
                   attributes=("non slip",), **fields)  # type: ignore[arg-type]  # fmt: skip


SECOND = product("B0ZZ", "$5 Gift Card [SEP] for All", options=(), price_tag="$12.0 to $34.0")
TEXTS = WebshopText()
HOME = plain_text(View("home", INSTRUCTION))
RESULTS = plain_text(View("results", INSTRUCTION, "shoe", 2, 12, (product(), SECOND)))
ITEM = plain_text(View("item", INSTRUCTION, "shoe", 1, 12, (product(),)))
ACTIONS = {
    "search[red shoes]": "search red shoes",
    "click[b0ab12cd34]": "open 1",
    "click[b0zz]": "open 2",
    "click[navy blue]": "choose navy blue",
    "click[back to search]": "back",
    "click[next >]": "next",
    "click[< prev]": "prev",
    "click[description]": "description",
    "click[features]": "features",
    "click[reviews]": "reviews",
    "click[buy now]": "buy",
}


def page(name: PageName) -> str:
    return plain_text(View(name, INSTRUCTION, "shoe", 1, 12, (product(),)))


def test_pages() -> None:
    assert TEXTS.intro(HOME) == Intro(INSTRUCTION, "", "i need non slip shoe in navy blue under 40")
    assert TEXTS.compact(RESULTS) == (
        "results page 2\nLumo Running Shoes Non Slip Sea fits 1\n$5 Gift Card [SEP] All fits 2"
    )
    assert TEXTS.compact(ITEM) == "item\ncolor, red, navy blue, size, 2xl, 8.5 (wide)"
    assert TEXTS.compact(page("description")) == "They are made gym."
    assert TEXTS.compact(page("features")) == "Non slip: you stand stay. everyone."
    assert TEXTS.compact(page("reviews")) == ""
    assert TEXTS.compact(page("done")) == "done" and TEXTS.compact(HOME) == "home"
    assert TEXTS.compact(plain_text(View("results", INSTRUCTION, "x", 1, 0))) == "no results"
    assert env_text("aem/WebShopBrowser-v0").compact(ITEM) == TEXTS.compact(ITEM)


def test_prices_are_said_to_fit_the_limit_or_not() -> None:
    tags = {"$23.5": "fits", "$30.0": "fits", "$30.01": "dear", "$12.0 to $34.0": "fits", "$31.0 to $34.0": "dear"}
    assert {tag: fit(tag, 30.0) for tag in tags} == tags
    assert fit("$1.2.3", 30.0) == fit("free", 30.0) == fit("$900.0", float("inf")) == "fits", (
        "nothing speaks against it"
    )


def test_the_limit_is_that_of_the_instruction() -> None:
    for limit, words in ((", and price lower than 20.00 dollars", "dear"), ("", "fits")):
        shown = plain_text(View("results", f"i need a shoe{limit}", "shoe", 1, 1, (product(),)))
        assert TEXTS.compact(shown).endswith(f"{words} 1")


@pytest.mark.parametrize(("action", "said"), ACTIONS.items())
def test_actions_and_their_words(action: str, said: str) -> None:
    where = RESULTS if said.startswith("open") else ITEM
    assert TEXTS.say(action, where) == said
    assert TEXTS.mean(said, where) == action


def test_words_that_tokenizers_took_apart_are_found_on_the_page() -> None:
    assert TEXTS.mean("choose 2 xl", ITEM) == "click[2xl]"
    assert TEXTS.mean("choose 8.5(wide)", ITEM) == "click[8.5 (wide)]"
    assert TEXTS.mean("search < q > shoes", HOME) == "search[<q> shoes]"


@pytest.mark.parametrize(
    "said", ["open 3", "open 0", "open", "open x", "open ²", "open 1 2", "search", "buy it", "", "click[red]", "dance"]
)
def test_what_is_not_understood_passes_unchanged(said: str) -> None:
    assert TEXTS.mean(said, RESULTS) == said
    assert TEXTS.say("dance", RESULTS) == "dance" and TEXTS.say("dance[x]", RESULTS) == "dance[x]"


def test_small_words_are_no_search_terms() -> None:
    assert TEXTS.say("search[The red, and the blue]", HOME) == "search red blue"


def test_what_is_not_on_the_page_keeps_its_name() -> None:
    """The environment then says that there is no such thing, as for anybody."""
    assert TEXTS.mean("choose green", ITEM) == "click[green]" == TEXTS.mean(TEXTS.say("click[green]", ITEM), ITEM)
    assert TEXTS.say("click[b0ab12cd34]", ITEM) == "choose b0ab12cd34"


def test_other_observation_modes_pass_unchanged() -> None:
    for text in (rich_text(View("item", INSTRUCTION, "shoe", 1, 12, (product(),))), "http://127.0.0.1:3000/abc", ""):
        assert read(text) is None and TEXTS.compact(text) == text.strip()
        assert TEXTS.say("click[red]", text) == "click[red]" and TEXTS.mean("open 1", text) == "open 1"
    assert TEXTS.intro("http://x") == Intro("", "http://x")


_TEXT = st.text(st.sampled_from("ab1$ [SEP]\n,Next>BuyNow"), min_size=1, max_size=12)


@given(
    st.lists(st.tuples(st.text("AB01", min_size=1, max_size=10), _TEXT), max_size=12, unique_by=lambda p: p[0]), _TEXT
)
def test_any_titles_leave_a_page_readable(named: list[tuple[str, str]], said: str) -> None:
    """Texts of products are other people's: whatever they hold, nothing is raised, and without marks all is found."""
    shown = tuple(product(asin, title) for asin, title in named)
    text = plain_text(View("results", INSTRUCTION, "x", 1, 12, shown))
    TEXTS.compact(text)
    assert isinstance(TEXTS.mean(said, text), str) and isinstance(TEXTS.say(said, text), str)
    if all(title.strip() and "SEP" not in title and "$" not in title for _, title in named):
        for asin, _ in named:
            assert TEXTS.mean(TEXTS.say(f"click[{asin.lower()}]", text), text) == f"click[{asin.lower()}]"


@given(
    st.lists(
        st.sampled_from(["red", "2xl", "10.5", "x", "|", "navy-blue", "(large)", "'a", "b%"]), min_size=1, max_size=4
    )
)
def test_any_option_survives_words_and_tokens(words: list[str]) -> None:
    """say → tokens of a word-level model → text → mean: the same click, whatever the tokenizer does to spaces."""
    value = " ".join(words)
    text = plain_text(View("item", INSTRUCTION, "x", 1, 12, (product(options=(("size", ("other", value)),)),)))
    tokenizer = train_tokenizer("word-number", [value, "choose"], 100)
    said = tokenizer.decode(tokenizer.encode(TEXTS.say(f"click[{value}]", text)))
    assert TEXTS.mean(said, text) == f"click[{value}]"


def test_small_models_and_large_ones_are_asked_in_their_own_words() -> None:
    home, results = {"admissible_actions": ["search[<query>]"]}, {"admissible_actions": ["click[b0ab12cd34]"]}
    plain = TextPrompter(PlainSpec(admissible=True), SHOP)
    assert plain.messages(HOME, home)[0]["content"] == (
        "task : i need non slip shoe in navy blue under 40\nactions : search <query>\n> "
    )
    assert plain.answer("search[shoe]") == "search shoe\n" and plain.mean("search shoe") == "search[shoe]"
    plain.said(HOME, Response("search shoe\n"), "search[shoe]")
    said = plain.messages(RESULTS, results)[0]["content"]
    assert "> search shoe\nresults page 2\nLumo" in said and said.endswith("actions : open 1\n> ")
    assert plain.answer("click[b0ab12cd34]") == "open 1\n" and plain.mean("open 1") == "click[b0ab12cd34]"
    raw = TextPrompter(PlainFullSpec(compact=False), SHOP)
    raw.messages(HOME, {})
    assert raw.answer("search[shoe]") == "search[shoe]\n" and raw.mean("open 1") == "open 1"
    large = TextPrompter(ThinkActionSpec(), SHOP)
    text = large.messages(HOME, home)[0]["content"]
    assert f"Your task is to: {INSTRUCTION}\n" in text and "At the start" not in text
    assert large.answer("click[b0zz]") == "<think></think><action>click[b0zz]</action>"
    assert large.mean("open 1") == "open 1"


def test_a_tokenizer_of_its_words_knows_the_shop() -> None:
    tokenizer = train_tokenizer("word-number", webshop_words(), 8192)
    unknown = tokenizer.inner.token_to_id("<unk>")
    known = "search open 10 choose buy back next prev results page 1 item under 990 task :\n women's non slip"
    assert unknown not in tokenizer.encode(known) and unknown in tokenizer.encode("flibbertigibbet")
