"""The viewer in a real Chromium: filter, open, step, compare, by keyboard, and on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from viewer_browser import Window, a_window
from viewer_runs import episode, evaluation

from aem_agent.viewer import write_comparison, write_view

pytestmark = pytest.mark.slow

UP, DOWN, LEFT, RIGHT, ENTER, ESCAPE, END = "\ue013", "\ue015", "\ue012", "\ue014", "\ue007", "\ue00c", "\ue010"
CUT = {"terminated": False, "truncated": True, "truncation_reason": "max_steps"}


@pytest.fixture(scope="module")
def window() -> Iterator[Window]:
    yield from a_window()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of 400 episodes, 100 of each end; and one of its first 40 tasks, beside it."""
    folder = tmp_path_factory.mktemp("runs")
    ends: list[dict[str, object]] = [{"won": True}, {}, CUT, {"error": "EngineError: down", "terminated": False}]
    many = [
        episode(f"task-{i:03}", attempt, turns=1 + i % 9, **ends[(i + attempt) % 4])  # type: ignore[arg-type]
        for i in range(200)
        for attempt in range(2)
    ]
    few = [episode(f"task-{i:03}", turns=3, won=i % 8 < 4) for i in range(40)]
    a, b = evaluation(folder / "many", many), evaluation(folder / "few", few)
    return {"view": write_view(a), "compare": write_comparison(a, b)}


def selected(window: Window) -> str:
    return window.text(".row[aria-selected=true] .task")


def test_filter(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["view"])
    assert window.text(".shown") == "400 episodes"
    assert window.texts(".chip") == ["won\n100", "lost\n100", "truncated\n100", "error\n100"]
    window.click(".chip.truncated")
    window.shows(".shown", "100 of 400 episodes")
    assert set(window.texts(".row .badge")) == {"truncated"}
    window.click("input[name=q]")
    window.keys("TASK-00", DOWN)
    window.shows(".shown", "5 of 400 episodes")
    assert window.texts(".chip") == ["won\n5", "lost\n6", "truncated\n5", "error\n4"], "counts follow the other filters"
    assert window.fragment == "#q=TASK-00&outcome=truncated"
    window.run("document.querySelector('input[name=least]').focus()")
    window.keys("7")
    window.shows(".shown", "1 of 400 episodes")
    assert window.texts(".row .turns") == ["7 turns"]
    window.keys("0")
    window.shows(".empty", "Nothing matches")
    window.click(".empty button")
    window.shows(".shown", "400 episodes")
    assert window.fragment == ""
    window.choose("reason", "=EngineError")
    window.shows(".shown", "100 of 400 episodes")
    assert set(window.texts(".row .badge")) == {"error"}
    assert window.troubles() == []


def test_sort(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["view"], "#sort=turns&order=desc")
    assert window.texts(".row .turns")[0] == "9 turns"
    assert window.texts(".row .number")[:2] == ["17", "18"], "equals stay in the order of their numbers"
    window.click("button.order")
    window.until(lambda: window.texts(".row .turns")[0] == "1 turn")
    assert window.fragment == "#sort=turns"


def test_only_rows_in_sight_exist(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["view"])
    assert window.run("return document.querySelectorAll('.row').length") < 60
    window.run("document.querySelector('.list').scrollTop = 1e9")
    window.until(lambda: "task-199" in window.texts(".row .task")[-1])
    assert window.run("return document.querySelectorAll('.row').length") < 60
    script = "return [...document.querySelectorAll('.row:not([hidden])')].map((r) => [r.id, r.firstChild.innerText])"
    shown = window.run(script)
    assert all(f"row-{int(number) - 1}" == name for name, number in shown) and len({name for name, _ in shown}) == len(
        shown
    )


def test_open_and_step(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["view"], "#q=task-004")
    window.click("#row-0")
    window.shows(".reader h1", "task-004")
    assert window.text(".reader .bar .where") == "1 of 2"
    assert "won" in window.text(".episode-head h1") and "reach the end." in window.text(".goal")
    window.shows(".turn h2", "Turn 1 of 5")
    texts = dict(zip(window.texts(".turn h3"), window.texts(".turn pre"), strict=True))
    assert (
        texts["Thoughts"] == "thought 1" and texts["Action"] == "act 1" and texts["Observation"].startswith("You see")
    )
    assert "0.5 nats" in window.text(".turn .figures") and "valid" in window.text(".turn .marks")
    assert window.run("return document.querySelectorAll('.charts svg').length") == 1, "entropy; no α was recorded"
    window.click(".stepper .main")
    window.shows(".turn h2", "Turn 2 of 5")
    assert "1 nats" in window.text(".turn .figures")
    window.click(".steps li:nth-child(5) button")
    window.shows(".turn h2", "Turn 5 of 5")
    assert "reward +1" in window.text(".turn .marks")
    assert window.fragment == "#q=task-004&episode=9&turn=5"
    window.click(".stepper .main")
    window.shows(".turn h2", "The end")
    assert "over" in window.text(".turn pre") and window.run("return document.querySelector('.stepper .main').disabled")
    window.click(".charts svg")
    window.shows(".turn h2", "Turn 3 of 5")
    window.click(".bar button[aria-label='next episode']")
    window.shows(".episode-head p.soft", "attempt 2")
    window.driver.back()
    window.driver.back()
    window.until(lambda: window.text(".reader") == "")
    assert window.text(".shown") == "2 of 400 episodes"
    assert window.troubles() == []


def test_keyboard_alone(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["view"])
    window.keys("j", "j", DOWN, "k")
    assert selected(window) == "task-001" and window.run("return document.activeElement.id") == "list"
    window.keys(END)
    window.until(lambda: selected(window) == "task-199")
    name = window.run("return document.activeElement.getAttribute('aria-activedescendant')")
    assert window.run("return document.getElementById(arguments[0]).getAttribute('aria-posinset')", name) == "400"
    window.keys("/", "task-07", ENTER)
    window.shows(".reader h1", "task-070")
    assert window.run("return document.activeElement.tagName") == "H1", "a screen reader begins with the episode"
    window.keys("j")
    window.shows(".stepper .position", "2 /")
    window.shows("#live", "turn 2 of")
    window.keys("k", RIGHT, RIGHT, LEFT)
    window.shows(".stepper .position", "2 /")
    window.keys("G")
    window.shows(".turn h2", "The end")
    window.keys("g")
    window.shows(".turn h2", "Turn 1")
    window.keys("n", "n")
    window.shows(".reader h1", "task-071")
    window.keys("p")
    window.shows(".bar .where", "2 of 20")
    window.keys("?")
    window.until(lambda: window.run("return document.querySelector('dialog').open"))
    assert "next, previous turn" in window.text("dialog")
    window.keys(ESCAPE)
    window.until(lambda: not window.run("return document.querySelector('dialog').open"))
    window.shows(".reader h1", "task-070")
    window.keys(ESCAPE)
    window.until(lambda: window.text(".reader") == "")
    assert window.run("return document.activeElement.id") == "list" and selected(window) == "task-070"
    window.keys("o")
    window.shows(".bar .where", "2 of 20")
    assert window.troubles() == []


def test_deep_links(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["view"], "#q=task-00&outcome=won,lost&episode=18&turn=3")
    window.shows(".turn h2", "Turn 3 of 9")
    assert "task-008" in window.text(".reader h1") and window.text(".bar .where") == "10 of 11"
    window.keys(ESCAPE)
    window.shows(".shown", "11 of 400")
    window.run("location.hash = '#episode=1&turn=999'")
    window.shows(".turn h2", "The end")
    window.run("location.hash = '#q=task-199'")
    window.shows(".shown", "2 of 400")
    for odd in ("#episode=0", "#episode=401", "#episode=x&turn=y", "#outcome=<b>&least=-1&sort=__proto__", "#%E0%A4%A"):
        window.open(pages["view"], odd)
        assert window.text(".shown") == "400 episodes" and window.text(".reader") == ""
    assert window.troubles() == []


def test_errors_and_cuts_are_told(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["view"], "#episode=4&turn=99")  # task-001, second attempt
    window.shows(".turn h2", "The end")
    assert "truncated: max_steps" in window.text(".turn .marks")
    window.open(pages["view"], "#outcome=error&episode=6&turn=99")
    window.shows(".turn .failure", "EngineError: down")
    assert "error: EngineError" in window.text(".episode-head h1")


def test_two_runs_side_by_side(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["compare"])
    assert window.text(".shown") == "40 pairs"
    assert window.texts(".chip") == ["won in A only\n5", "won in B only\n10", "both\n5", "neither\n10", "errored\n10"]
    assert "B − A" in window.text("table.differences") and "success" in window.text("table.differences")
    window.click(".chip.b")
    window.shows(".shown", "10 of 40 pairs")
    window.click("#row-0")
    window.shows(".reader h1", "task-001")
    assert window.texts(".side .run-name") == ["A many", "B few"]
    assert window.texts(".side h2 .badge") == ["lost", "won"]
    assert window.texts(".side .turn h2") == ["Turn 1 of 2", "Turn 1 of 3"]
    window.keys("G")
    window.until(lambda: window.texts(".side .turn h2") == ["The end", "The end"])
    window.keys("k")
    window.until(lambda: window.texts(".side .turn h2") == ["The end", "Turn 3 of 3"])
    assert window.fragment == "#outcome=b&pair=2&turn=3"
    window.keys("n", ESCAPE)
    window.shows(".shown", "10 of 40 pairs")
    assert window.troubles() == []


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone(window: Window, pages: dict[str, Path], width: int) -> None:
    window.size(width, 844)
    try:
        window.open(pages["view"])
        assert window.overflows() == []
        window.click("button.toggle")
        assert window.overflows() == [] and window.texts(".chip")[0] == "won\n100"
        script = """return [...document.querySelectorAll('button, select, input, .row')]
            .filter((e) => e.offsetParent).map((e) => e.offsetHeight)"""
        heights = window.run(script)
        assert min(heights) >= 44, "large enough for a finger"
        window.click(".chip.won")
        window.click("button.toggle")
        window.click("#row-3")
        window.shows(".turn h2", "Turn 1")
        assert window.overflows() == []
        window.click(".stepper .main")
        window.shows(".turn h2", "Turn 2")
        window.click("details.curves summary")
        window.until(lambda: window.run("return document.querySelectorAll('.charts svg').length") == 1)
        assert window.overflows() == []
        window.open(pages["compare"], "#pair=2&turn=2")
        window.until(lambda: window.texts(".side .run-name") == ["A many"])
        assert window.overflows() == []
        window.click(".tabs button:last-child")
        assert window.texts(".side .run-name") == ["B few"] and window.overflows() == []
    finally:
        window.size(1280, 800)
