"""Pages, moves and texts of the shop.

(Over 300 lines: one session, walked and read in every way on the same small shop.)
"""

import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from small_shop import PRODUCTS, product, small_shop

import aem_envs
from aem_envs.actions import MAX_ACTION
from aem_envs.core import BadStateError
from aem_envs.webshop.session import QUERY_FORM, Session
from aem_envs.webshop.shop import Shop
from aem_envs.webshop.state import plain_state, restore
from aem_envs.webshop.view import View, clicked, pieces, plain_text, rich_text, url


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return small_shop(tmp_path_factory.mktemp("shop") / "store")


@pytest.fixture
def session(shop: Shop) -> Session:
    return Session(shop, "i want a shirt", "task")


def at(session: Session, asin: str) -> Session:
    """On the page of a product, by way of its query."""
    query = next(product.query for product in PRODUCTS if product.asin == asin)
    session.search(f"<q> {query}")
    while not session.click(asin.lower()):
        assert session.click("next >")
    return session


def test_home(session):
    assert session.text() == "WebShop [SEP] Instruction: [SEP] i want a shirt [SEP] Search"
    assert session.clickables == ["search"] and session.actions() == [QUERY_FORM]
    assert not session.click("search"), "the form takes words"


def test_results(session):
    session.search("plain shirt")
    parts = session.text().split(" [SEP] ")
    assert parts[:5] == ["Instruction:", "i want a shirt", "Back to Search", "Page 1 (Total results: 12)", "Next >"]
    assert parts[5:8] == ["B00SHIRT00", "Plain shirt number 0", "$10.0"]
    assert len(parts) == 5 + 3 * 10
    assert session.clickables[:3] == ["back to search", "next >", "b00shirt00"] and len(session.clickables) == 12
    assert session.click("next >")
    parts = session.text().split(" [SEP] ")
    assert parts[3:6] == ["Page 2 (Total results: 12)", "< Prev", "Next >"] and len(parts) == 6 + 3 * 2
    assert session.clickables[:3] == ["back to search", "< prev", "next >"]
    assert session.click("next >") and session.text().endswith("Page 3 (Total results: 12) [SEP] < Prev [SEP] Next >")
    assert session.click("< prev") and session.click("< prev") and not session.click("< prev")


def test_item(session):
    at(session, "B00SHIRT03")
    assert session.text() == (
        "Instruction: [SEP] i want a shirt [SEP] Back to Search [SEP] < Prev [SEP] color [SEP] red [SEP] navy blue "
        "[SEP] size [SEP] small [SEP] large [SEP] Plain shirt number 3 [SEP] Price: $13.0 [SEP] Rating: N.A. "
        "[SEP] Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
    )
    buttons = ["back to search", "< prev", "description", "features", "reviews", "buy now"]
    assert session.clickables == [*buttons, "red", "navy blue", "small", "large"]
    before = session.text()
    assert session.click("red") and session.click("small") and session.click("navy blue")
    assert session.options == {"color": "navy blue", "size": "small"} and session.text() == before
    assert not session.click("green") and not session.click("b00shirt04") and not session.click("next >")


def test_sub_pages_keep_options_and_prev_leads_back(session):
    at(session, "B00SHIRT03").click("red")
    for name, text in (
        ("description", " [SEP] All about Plain shirt number 3."),
        ("features", " [SEP] Made well [SEP] Lasts long"),
        ("reviews", ""),
    ):
        assert session.click(name)
        assert session.text() == f"Instruction: [SEP] i want a shirt [SEP] Back to Search [SEP] < Prev{text}"
        assert session.clickables == ["back to search", "< prev"] and not session.click("buy now")
        assert session.click("< prev") and session.page == "item" and session.options == {"color": "red"}


def test_leaving_an_item_forgets_its_options(session):
    at(session, "B00SHIRT03").click("red")
    assert session.click("< prev") and session.page == "results" and session.options == {}
    at(session, "B00SHIRT03").click("red")
    session.search("lamp")
    assert session.options == {} and session.page == "results"
    at(session, "B00SHIRT03").click("description")
    assert session.click("back to search") and session.page == "home" and session.query == "" and not session.visited


def test_prev_leads_to_the_page_of_results_one_came_from(session):
    session.search("plain shirt")
    session.click("next >")
    assert session.click(session.clickables[-1]) and session.click("< prev")
    assert session.number == 2


def test_search_works_on_every_page_but_the_last(session):
    for moves in (["b00shirt01"], ["b00shirt01", "features"], ["next >"], []):
        session.search("plain shirt")
        for move in moves:
            assert session.click(move)
        assert QUERY_FORM in session.actions()
        session.search("lamp")
        assert session.page == "results" and session.number == 1
    at(session, "B00SHIRT01").click("buy now")
    assert session.page == "done" and session.actions() == []
    assert session.text() == "Thank you for shopping with us!"


def test_equal_values_belong_to_the_last_group(session):
    at(session, "B0000TWICE")
    assert session.clickables[-3:] == ["red", "same", "blue"]
    session.click("same")
    assert session.options == {"shade": "same"}


def test_values_named_like_buttons_are_not_options(session):
    at(session, "B000BUTTON")
    assert session.clickables.count("description") == session.clickables.count("buy now") == 1
    assert session.click("next >") and session.options == {"kind": "next >"}, "no button of this page"
    assert session.click("description") and session.page == "description"


def test_blank_texts_are_left_out(session):
    at(session, "B0000BLANK")
    assert "[SEP]  [SEP]" not in session.text() and "" not in session.clickables
    session.click("features")
    assert session.text().endswith("< Prev")


def test_asins_in_lower_case_can_be_clicked(session):
    at(session, "b0000lower")
    assert session.shop.product(session.doc).price_tag == "$5.0 to $15.0"


def test_prefixes_of_searches(session):
    session.search("<c> garden")
    assert len(session.hits) == 1
    session.search("<c>")
    assert session.text().endswith("Page 1 (Total results: 0) [SEP] Next >")
    session.search("<q> shirts")
    assert [session.shop.product(doc).asin for doc in session.hits] == [f"B00SHIRT{n:02d}" for n in range(12)]
    session.search("<r> x")
    first = list(session.hits)
    assert len(set(first)) == len(PRODUCTS)
    session.search("<r> y")
    assert list(session.hits) != first
    session.search("<r> x")
    assert list(session.hits) == first, "at random, but always the same"
    other = Session(session.shop, "", "another task")
    other.search("<r> x")
    assert list(other.hits) != first


def walk(session: Session, rng: random.Random) -> None:
    action = rng.choice(session.actions())
    if action == QUERY_FORM:
        session.search(rng.choice(["plain shirt", "lamp", "kite", "<q> spoons", "<c> garden", "zzz", "boat"]))
    else:
        assert session.click(action.removeprefix("click[").removesuffix("]")), action


def test_fast_texts_are_those_of_the_views(shop):
    """`Session.text` and `clickables` are put together from kept parts; `pieces` says what they must be."""
    rng = random.Random(1)
    seen = set()
    for _ in range(60):
        session = Session(shop, "i want [SEP] this", "task")
        for _ in range(15):
            assert session.text() == plain_text(session.view())
            if session.page == "done":
                break
            shown = pieces(session.view())
            names = [text.strip().lower() for kind in ("button", "link", "option") for text, k in shown if k == kind]
            assert session.clickables == list(dict.fromkeys(names))
            seen.add(session.page)
            walk(session, rng)
    assert len(seen) == 6


def test_states_come_back(shop):
    rng = random.Random(2)
    for _ in range(30):
        session = Session(shop, "i", "task")
        for _ in range(rng.randint(0, 8)):
            if session.page != "done":
                walk(session, rng)
        twin = Session(shop, "i", "task")
        restore(twin, plain_state(session))
        assert (twin.text(), twin.actions(), twin.anchor(), twin.visited) == (
            session.text(),
            session.actions(),
            session.anchor(),
            session.visited,
        )
        assert list(twin.hits) == list(session.hits)


def test_the_longest_query_comes_back():
    with closing(aem_envs.make_env("aem/WebShop-v0", products=20)) as env:
        env.reset(seed=0)
        *_, info = env.step(f"search[{'İ' * (MAX_ACTION - len('search[]'))}]")
        assert info["action_valid"] and len(env.session.query) > MAX_ACTION, "in lower case it is longer"
        env.set_state(env.get_state())
        assert env.session.text() == info["raw_obs"]


@pytest.mark.parametrize(
    "change",
    [
        {"page": "cellar"},
        {"page": "home"},
        {"page": "results"},
        {"query": ""},
        {"query": "\ud800"},
        {"query": 3},
        {"number": 0},
        {"number": 10**9},
        {"number": True},
        {"asin": ""},
        {"asin": "B0NOWHERE0"},
        {"asin": "\ud800"},
        {"options": [["color", "green"]]},
        {"options": [["size", "red"]]},
        {"options": [["color"]]},
        {"options": [[["color"], "red"]]},
        {"options": [["color", ["red"]]]},
        {"options": "red"},
        {"visited": [3]},
        {"visited": ["nowhere"]},
        {"extra": 1},
    ],
)
def test_impossible_states_are_refused(session, change):
    at(session, "B00SHIRT03").click("red")
    plain = plain_state(session)
    restore(Session(session.shop, "i", "task"), plain)
    with pytest.raises(BadStateError):
        restore(Session(session.shop, "i", "task"), {**plain, **change})


def test_anchors_tell_decision_points_apart(session):
    anchors = [session.anchor()]
    for move in ("search", "b00shirt03", "red", "small", "features"):
        session.search("plain shirt") if move == "search" else session.click(move)
        anchors.append(session.anchor())
    assert len(set(anchors)) == len(anchors)
    session.click("< prev")
    assert session.anchor() == anchors[-2]
    at(session, "B00SHIRT03")
    session.click("small")
    session.click("red")
    other = session.anchor()
    session.search("plain shirt")
    for move in ("b00shirt03", "red", "small"):
        session.click(move)
    assert session.anchor() == anchors[-2] != other, "the search counts, the order of the options does not"


def test_rich_text_marks_buttons_and_what_was_clicked(session):
    session.search("plain shirt")
    assert "\n\n[button] B00SHIRT00 [button_]\nPlain shirt number 0\n$10.0\n" in rich_text(session.view())
    session.click("b00shirt00")
    session.click("red")
    text = rich_text(session.view())
    assert text.startswith("You have clicked red.\nInstruction:\ni want a shirt\n[button] Back to Search [button_]\n")
    assert "color\n  [clicked button] red [clicked button_]\n  [button] navy blue [button_]\nsize\n" in text
    session.click("< prev")
    assert "\n[clicked button] B00SHIRT00 [clicked button_]\n" in rich_text(session.view())


def test_urls_are_those_of_the_original(session):
    base = "http://127.0.0.1:3000"
    assert url(session.view(), "7") == f"{base}/7"
    session.search("plain shirt")
    assert url(session.view(), "7") == f"{base}/search_results/7/plain+shirt/1"
    session.click("b00shirt00")
    session.click("red")
    assert url(session.view(), "7") == f'{base}/item_page/7/B00SHIRT00/plain+shirt/1/{{"color": "red"}}'
    session.click("features")
    assert url(session.view(), "7") == f"{base}/item_sub_page/7/B00SHIRT00/plain+shirt/1/Features/{{'color': 'red'}}"
    session.click("< prev")
    session.click("buy now")
    assert url(session.view(), "7") == f"{base}/done/7/B00SHIRT00/{{'color': 'red'}}"


def test_only_the_original_tells_the_score(session):
    at(session, "B00SHIRT03").click("buy now")
    assert plain_text(session.view()) == "Thank you for shopping with us!"
    session.options = {"size": "<'l'>", "color": "red"}
    leaked = plain_text(session.view(leak="0.75"))
    assert 'options [SEP] {"color": "red", "size": "\\u003c\\u0027l\\u0027\\u003e"} [SEP] attrs' in leaked
    assert "Your score (min 0.0, max 1.0) [SEP] 0.75 [SEP]" in leaked and leaked.startswith("Thank you")


def test_the_original_shows_blanks_where_we_show_nothing():
    odd = product("B000BLANKS", " ", description="\xa0", bullets=("", " a", "\n"), options=(("é", ("é", "size")),))
    view = View("features", "i", "shirt", 1, 1, (odd,), original=True)
    head = "Instruction:\ni\n[button] Back to Search [button_]\n[button] < Prev [button_]\n"
    assert rich_text(view) == f"{head} \n  a\n"
    assert plain_text(view).endswith("< Prev [SEP]  [SEP] a")
    assert rich_text(replace(view, original=False)) == f"{head} a\n"
    assert rich_text(replace(view, page="description")) == f"{head}\xa0\n"
    assert rich_text(replace(view, page="description", original=False)) == head
    assert "[SEP] size [SEP]  [SEP] Price: " in plain_text(replace(view, page="item"))
    assert rich_text(View("home", "i", original=True)) == "WebShop\nInstruction: \ni\n[button] Search [button_]\n"


def test_the_original_finds_what_was_clicked_in_the_address():
    odd = product("B000MARKED", "Hat", options=(("é", ("été", "red")), ("red", ("blue", "green"))))
    view = View("item", "i", 'hat "green"', 1, 1, (odd,), (("é", "été"), ("red", "blue")))
    assert clicked(view) == {"été", "blue"}
    assert clicked(replace(view, original=True)) == {"red", "blue", "green"}


def test_blanks_around_an_instruction_are_not_shown(shop: Shop):
    for instruction in (" i want a shirt ", " "):
        session = Session(shop, instruction, "task")
        session.search("shirts")
        assert session.text() == plain_text(session.view())
        session.click("b00shirt00")
        assert session.text() == plain_text(session.view())


def test_the_store_is_only_read(shop: Shop, tmp_path: Path):
    with pytest.raises(ValueError, match="read-only"):
        shop.store.weights[0] = 3
