"""The viewer in a real Chromium where things are not as usual: a page that is still on its way, damaged, or very long;
odd addresses; small windows; long names."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Event, Thread

import pytest
from viewer_browser import Window, a_window
from viewer_runs import episode, evaluation, head_of

from aem_agent.viewer import write_comparison, write_view
from aem_agent.viewer.chunks import ChunkWriter
from aem_agent.viewer.page import write_page

pytestmark = pytest.mark.slow

ENTER, ESCAPE = "\ue007", "\ue00c"


@pytest.fixture(scope="module")
def window() -> Iterator[Window]:
    yield from a_window()


@contextmanager
def in_two_pieces(page: bytes, at: int) -> Iterator[tuple[str, Event]]:
    """Serves the page; what comes after the byte `at` once the event is set."""
    rest = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            if self.path == "/page":
                self.wfile.write(page[:at])
                self.wfile.flush()
                rest.wait(30)
                self.wfile.write(page[at:])

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/page", rest
    finally:
        rest.set()
        server.shutdown()
        server.server_close()


def go_to(window: Window, address: str) -> None:
    """Without waiting for the page's end."""
    window.driver.get("about:blank")
    window.run("setTimeout(() => { location.href = arguments[0] }, 0, arguments[0])", address)
    window.until(lambda: window.run("return performance.getEntriesByName('aem-list').length === 1"))


def test_a_page_that_is_still_on_its_way(window: Window, tmp_path: Path) -> None:
    """The list shows and works; what is opened comes once its part of the file is whole, as does a deep link."""
    page = write_view(evaluation(tmp_path / "run", [episode(f"t{i:03}", turns=60) for i in range(200)]))
    chunks = head_of(page)["runs"][0]["columns"]["chunk"]
    assert chunks[-1] >= 3
    half, last = chunks.index(2) + 1, len(chunks)
    content = page.read_bytes()
    at = content.index(b'id="chunk-0-2"') + 4_001
    with in_two_pieces(content, at) as (address, rest):
        go_to(window, f"{address}#episode={half}&turn=2")
        assert window.run("return document.readyState") == "loading" and window.text(".shown") == "200 episodes"
        window.keys("j", "j")
        assert window.text(".row[aria-selected=true] .task") == "t002", "the list has the keys meanwhile"
        window.run(f"location.hash = '#episode={half}&turn=3'")
        rest.set()
        window.shows(".turn h2", "Turn 3 of 60")
        assert window.text(".reader h1").endswith(f"t{half - 1:03}")
    with in_two_pieces(content, at) as (address, rest):
        go_to(window, address)
        window.run(f"location.hash = '#episode={half}'")
        time.sleep(0.2)  # what was tried too early would have failed by now
        window.run("location.hash = '#episode=1'")
        window.shows(".reader h1", "t000")
        window.run(f"location.hash = '#episode={last}'")
        rest.set()
        window.shows(".reader h1", f"t{last - 1:03}")
        window.run(f"location.hash = '#episode={half}'")
        window.shows(".reader h1", f"t{half - 1:03}")
    assert [trouble for trouble in window.troubles() if "favicon" not in trouble] == []


def test_a_damaged_page(window: Window, tmp_path: Path) -> None:
    """What cannot be opened says so, and everything else goes on; a second try is a new one."""
    page = write_view(evaluation(tmp_path / "run", [episode("a"), episode("b")]))
    content = page.read_text("utf-8")
    start = content.index('id="chunk-0-0">') + len('id="chunk-0-0">')
    damaged = tmp_path / "damaged.html"
    damaged.write_text(content[:start] + "AAAA" + content[start:], "utf-8")
    window.open(damaged, "#episode=1&turn=2")
    window.shows(".reader [role=alert]", "episode 1 cannot be shown")
    window.run("const text = document.getElementById('chunk-0-0').firstChild; text.data = text.data.slice(4)")
    window.click(".reader .main")
    window.shows(".turn h2", "Turn 2 of 2")
    cut = tmp_path / "cut.html"
    cut.write_text(content[: content.index('<script type="text/plain" id="chunk-0-0"')], "utf-8")
    window.open(cut)
    window.keys("j", ENTER)
    window.shows(".reader [role=alert]", "episode 2 cannot be shown: the file is not whole")
    window.keys("p")
    window.shows(".reader [role=alert]", "episode 1")
    window.keys(ESCAPE)
    window.until(lambda: window.text(".reader") == "")
    assert window.run("return document.activeElement.id") == "list" and window.troubles() == []


def test_runs_that_were_not_played_to_their_end(window: Window, tmp_path: Path) -> None:
    begun = evaluation(tmp_path / "begun", [episode("a")], tasks=3)
    window.open(write_view(begun))
    assert "The run is incomplete: 2 planned episodes not played" in window.text(".title")
    window.open(write_comparison(begun, evaluation(tmp_path / "whole", [episode("a")])))
    assert "A is incomplete: 2 planned episodes" in window.text(".title") and "B is" not in window.text(".title")
    window.open(write_view(evaluation(tmp_path / "none", [])))
    window.shows(".empty", "No episode is recorded yet.")
    assert window.troubles() == []


def test_addresses(window: Window, tmp_path: Path) -> None:
    ends = {"turns": 0, "final_observation": ""}
    page = write_view(evaluation(tmp_path / "run", [episode("a", turns=5), episode("b", **ends), episode("c")]))
    for turn, shown in (("abc", 1), ("2.5", 1), ("-3", 1), ("1e999", 1), ("0", 1), ("3", 3), ("999999", 6)):
        window.open(page, f"#episode=1&turn={turn}")
        window.shows(".stepper .position", f"{shown} / 6")
    window.open(page, "#episode=2")
    window.shows(".turn h2", "The end")
    assert window.text(".stepper .position") == "1 / 1" and "Nothing was recorded" in window.text(".turn")
    assert window.run("return document.querySelector('.stepper .main').disabled")
    assert window.driver.title == "b · run · episodes"
    window.keys("n")
    window.shows(".reader h1", "c")
    window.keys("j")
    window.run("""for (const key of ['p', 'j', 'j'])
        document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))""")
    assert window.fragment == "#episode=2", "no turn of the one before"
    window.shows(".reader h1", "b")
    window.keys(ESCAPE)
    window.until(lambda: window.driver.title == "run · episodes")
    script = """const field = document.querySelector('input[name=least]'); field.value = arguments[0];
        field.dispatchEvent(new Event('input'))"""
    window.run(script, "2.5")
    assert window.text(".shown") == "3 episodes" and window.fragment == "", "what an address cannot hold is no filter"
    window.run(script, "3")
    assert window.text(".shown") == "1 of 3 episodes" and window.fragment == "#least=3"
    window.click("#row-0")
    window.shows(".reader h1", "a")
    window.driver.back()
    window.until(lambda: window.text(".shown") == "1 of 3 episodes")
    assert window.troubles() == []


def test_focus_and_what_names_it(window: Window, tmp_path: Path) -> None:
    window.open(write_view(evaluation(tmp_path / "run", [episode(f"t{i:03}") for i in range(300)])))
    active = "return document.querySelector('.list').getAttribute('aria-activedescendant')"
    window.keys("j")
    assert window.run(active) == "row-1"
    window.run("document.querySelector('.list').scrollTop = 8000")
    window.until(lambda: window.run(active) is None)
    window.keys("j")
    assert window.run(active) == "row-2" and window.run("return document.getElementById('row-2') !== null")
    window.keys("/", "zzz", ESCAPE)
    assert window.run("return document.activeElement.textContent") == "Clear the filters"
    window.keys(ENTER)
    window.until(lambda: window.text(".shown") == "300 episodes")
    assert window.troubles() == []


ROWS_IN_SIGHT = """document.querySelector('.list').scrollIntoView({block: 'nearest'});
    const box = document.querySelector('.list').getBoundingClientRect();
    const [top, bottom] = [Math.max(0, box.top), Math.min(innerHeight, box.bottom)];
    return [...document.querySelectorAll('.row:not([hidden])')].map((e) => e.getBoundingClientRect())
        .filter((row) => row.top >= top - 1 && row.bottom <= bottom + 1).length"""


def test_small_windows_and_long_names(window: Window, tmp_path: Path) -> None:
    """A phone on its side, four hundred per cent, and a low window: rows are in sight, and the page scrolls to them."""
    tasks = [f"small/valid_seen/{i:05}" for i in range(60)]
    a, b = (
        evaluation(tmp_path / name, [episode(t, turns=30, won=name == "b") for t in tasks], env={"size": name, "x": y})
        for name, y in (("a", 1), ("b", 2))
    )
    pages = write_view(a), write_comparison(a, b)
    try:
        for width, height in ((667, 375), (320, 256), (568, 320), (844, 390)):
            for page in pages:
                window.size(width, height)
                window.open(page)
                assert window.run(ROWS_IN_SIGHT) >= 2, (width, height, page.name)
                assert window.run("return document.querySelector('.list').clientHeight <= innerHeight")
                assert window.overflows() == []
                window.keys("j", "j", "j", "j")
                window.run("window.scrollTo(0, 0)")
                window.keys("j", "j", "j")
                box = window.run("""const at = document.querySelector('.row[aria-selected=true]');
                    const b = at.getBoundingClientRect(); return [at.id, b.top, b.bottom]""")
                assert box[0] == "row-7" and box[1] >= -1 and box[2] <= height + 1, (width, height, page.name)
            assert not window.run("return document.querySelector('details.found').open"), "folded"
        for width, page in product((1100, 1200), pages):
            window.size(width, 800)
            window.open(page)
            cut = "return [...document.querySelectorAll('.row .task')].some((e) => e.scrollWidth > e.clientWidth)"
            assert not window.run(cut) and window.overflows() == []
        assert "B − A" in window.text("details.found")
    finally:
        window.size(1280, 800)
    assert window.troubles() == []


def test_very_long_runs(window: Window, tmp_path: Path) -> None:
    head = head_of(write_view(evaluation(tmp_path / "run", [episode("a")])))
    run = head["runs"][0]
    run |= {"count": 200_000, "columns": {name: values * 200_000 for name, values in run["columns"].items()}}
    with ChunkWriter() as chunks:
        write_page(tmp_path / "long.html", "long", head, [chunks])
    window.open(tmp_path / "long.html")
    assert window.text(".shown") == "200,000 episodes" and window.troubles() == []
