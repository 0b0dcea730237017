"""The site builds strictly (no warning, no broken link or anchor), and its pages load nothing from elsewhere."""

import os
import re
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from aem_agent.cli import build_parser
from aem_envs.webshop.browser.process import Browser, BrowserMissingError, find_browser
from aem_suite import data_cli, envs_cli
from trainer import cli as train_cli

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"^(https?:)?//")
STYLE_URL = re.compile(r"(?:@import\s+|url\()\s*[\"']?([^\"')\s]+)")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
LARGEST_PICTURE = 150_000


class Loads(HTMLParser):
    """What a page loads by itself: scripts, styles, fonts, pictures, frames; not where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in LOADED:
            self.found.append(values.get(LOADED[tag], ""))
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(values.get("href", ""))
        self.found += STYLE_URL.findall(values.get("style", ""))


def loads(page: str) -> list[str]:
    """Addresses outside of the site that `page` would fetch."""
    parser = Loads()
    parser.feed(page)
    styles = "".join(re.findall(r"<style[^>]*>(.*?)</style>", page, flags=re.S))
    return [address for address in [*parser.found, *STYLE_URL.findall(styles)] if OUTSIDE.match(address)]


def test_what_a_page_fetches_from_elsewhere_is_found() -> None:
    page = (
        '<a href="https://a.example">read</a><script src="assets/x.js"></script><link rel="canonical" href="https://b/">'
        '<script src="https://c.example/x.js"></script><link rel="stylesheet" href="//d.example/x.css">'
        '<style>@import "https://e.example/x.css"; p { background: url(https://f.example/x.png) }</style>'
    )
    assert [address.split("/")[2][0] for address in loads(page)] == ["c", "d", "e", "f"]


def commands(parser: ArgumentParser) -> list[str]:
    """The parser's name and those of its subcommands, as `aem-eval run`."""
    below = [action.choices for action in parser._subparsers._group_actions] if parser._subparsers else []
    return [parser.prog, *(name for choices in below for child in choices.values() for name in commands(child))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning."""
    site = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "SITE_URL": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return site


@pytest.mark.slow
def test_the_site_builds_strictly_and_stands_alone(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    assert {page.name: found for page in pages if (found := loads(page.read_text("utf-8")))} == {}
    styles = {style.name: STYLE_URL.findall(style.read_text("utf-8")) for style in site.rglob("*.css")}
    assert not [url for urls in styles.values() for url in urls if OUTSIDE.match(url)]
    assert (site / "search" / "search_index.js").is_file()
    assert '<a href="assets/rooms.svg"><img' in (site / "index.html").read_text("utf-8")
    assert not (site / "404.html").exists()  # it would ask for /assets/…, wherever the site lies

    for parser in (envs_cli.parser(), data_cli.parser(), build_parser(), train_cli.parser()):
        page = (site / "reference" / "cli" / f"{parser.prog}.html").read_text("utf-8")
        assert [name for name in commands(parser)[1:] if f">{name}<a" not in page] == []
    assert 'id="trainer.aem.modulate"' in (site / "reference" / "api" / "maths.html").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_search_finds_pages_from_a_folder(site: Path) -> None:
    """No server: a browser starts no worker from a file, so `assets/iframe-worker.js` must do."""
    with tempfile.TemporaryDirectory(prefix="aem-t-") as room, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", room)  # where a browser leaves files; its sockets want short paths
        try:
            browser = Browser(find_browser(None, None, True, (1400, 900), 60.0))
        except BrowserMissingError as error:
            pytest.skip(str(error))
        try:
            searched(browser.driver, site)
        finally:
            browser.close()


def searched(browser: Any, site: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get((site / "tutorials" / "scaling.html").as_uri())
    ready = "return document.readyState === 'complete' && document.querySelector('.md-search__input') !== null"
    WebDriverWait(browser, 60).until(lambda page: page.execute_script(ready))
    browser.execute_script("document.querySelector('.md-search__input').focus()")
    browser.switch_to.active_element.send_keys("sandbox")
    found = "return [...document.querySelectorAll('.md-search-result__link')].map(link => link.href)"
    links = WebDriverWait(browser, 60).until(lambda page: page.execute_script(found))
    assert any("write-a-custom-sandbox.html" in link for link in links), links
    assert all(link.startswith(site.as_uri()) for link in links), links


def test_pictures_are_small_and_described() -> None:
    pictures = [path for path in (ROOT / "docs" / "assets").rglob("*") if path.suffix in (".png", ".svg", ".webp")]
    assert not [path.name for path in pictures if path.stat().st_size > LARGEST_PICTURE]
    texts = [page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md")]
    assert not [text for text in texts if re.search(r"!\[\s*\]\(", text)], (
        "a picture without words for who cannot see it"
    )


def test_tutorials_keep_their_promises() -> None:
    """An environment in 40 lines, an algorithm in 30."""
    tutorials = ROOT / "docs" / "tutorials"
    environment = re.search(r'title="lift.py"\n(.*?)```', (tutorials / "your-own-environment.md").read_text(), re.S)
    algorithm = re.search(r'title="my_algorithm.py"\n(.*?)```', (tutorials / "your-own-algorithm.md").read_text(), re.S)
    assert environment and algorithm
    body = environment[1].partition("class LiftEnv")[2].partition("aem_envs.register")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 40
    assert len(algorithm[1].splitlines()) <= 30
