"""Hostile texts in the viewer, in a real Chromium: nothing of them runs, and nothing is asked of a network."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from viewer_browser import Window, a_window
from viewer_runs import NASTY, episode, evaluation, nasty_episode

from aem_agent.viewer import write_comparison, write_view
from aem_envs.sanitize import has_controls, plain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def window() -> Iterator[Window]:
    yield from a_window()


class Trap(BaseHTTPRequestHandler):
    """Remembers who came."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        Trap.asked.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def trap() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Trap)
    Thread(target=server.serve_forever, daemon=True).start()
    Trap.asked = []
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_hostile_texts_stay_texts(window: Window, tmp_path: Path, trap: str) -> None:
    """In every field, in the folder's name and the model's: nothing runs, nothing is asked for, all of it is shown."""
    bait = "".join(f"<{tag} src='{trap}/{tag}'></{tag}>" for tag in ("img", "script", "iframe")) + (
        f"<link rel=stylesheet href='{trap}/link'><form action='{trap}/form'><base href='{trap}/'>"
        f"<svg onload='window.hacked=1'><style>@import '{trap}/style'</style>"
    )
    text = NASTY + bait
    name = "<img src=x onerror=window.hacked=1>\u202e\x1b[2J"
    folder = evaluation(tmp_path / name, [nasty_episode(text), episode("t")], model=text, split=text)
    folder.write_report("")
    window.open(write_view(folder))
    assert plain(name) in window.text("h1") and "<script>window.hacked=1" in window.text(".what")
    window.click("#row-0" if "hacked" in window.text("#row-0") else "#row-1")
    window.shows(".turn h2", "Turn 1")
    for shown in (".reader h1", ".episode-head", ".steps", ".turn .marks", ".turn pre"):
        assert "<script>window.hacked=1" in window.text(shown), shown
    window.click(".facts summary")
    window.click(".turn details summary")
    window.keys("G")
    window.shows(".turn h2", "The end")
    assert "</script><script>" in window.text(".turn pre")
    window.open(write_comparison(folder, evaluation(tmp_path / "b", [nasty_episode(text), episode("t")])), "#pair=1")
    window.shows(".turn h2", "Turn 1")
    assert "<script>window.hacked=1" in window.text(".reader h1")
    assert window.run("return window.hacked") is None and window.troubles() == [] and Trap.asked == []
    assert window.run("return document.querySelectorAll('img, iframe, form, link, base, object').length") == 0
    assert not has_controls(window.run("return document.body.textContent")), "none is left, not even in hidden parts"


def test_the_trap_snaps_and_the_policy_holds(window: Window, tmp_path: Path, trap: str) -> None:
    """What the test above looks for would be seen: markup made past the page's scripts is refused by its policy, and
    without a policy it asks the trap."""
    page = write_view(evaluation(tmp_path / "run", [episode("t")]))
    put = f"const i = document.createElement('img'); i.src = '{trap}/img'; document.body.append(i)"
    window.open(page)
    window.run(put)
    window.until(lambda: "img-src" in window.troubles())
    assert Trap.asked == []
    with pytest.raises(Exception, match="TrustedHTML"):
        window.run("document.body.innerHTML = '<b>x</b>'")
    bare = tmp_path / "bare.html"
    bare.write_text("<p>no policy</p>")
    window.driver.get(bare.as_uri())
    window.until(lambda: window.text("p") == "no policy")
    window.run(put)
    window.until(lambda: Trap.asked == ["/img"])
