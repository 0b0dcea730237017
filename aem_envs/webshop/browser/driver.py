"""A tab of the browser: opens the shop, types and clicks as a person would, and reads what the page then shows."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aem_envs.webshop.browser.process import Browser, BrowserError, first_line
from aem_envs.webshop.session import QUERY_FORM
from aem_envs.webshop.view import SEARCH, Piece

if TYPE_CHECKING:
    from selenium.webdriver.remote.webelement import WebElement

TYPED = 200
"""Characters of the longest query that is typed key by key (1-3 ms each); longer ones are pasted."""
_PAUSE = 0.002
_numbers = itertools.count()

_READ = """
const body = document.body;
if (document.readyState !== "complete" || !body) return null;
const shown = [...document.querySelectorAll("[data-n]")].filter(e => e.checkVisibility({visibilityProperty: true}));
shown.sort((a, b) => a.dataset.n - b.dataset.n);
let source = "";
if (arguments[0]) {
  const copy = document.documentElement.cloneNode(true);
  copy.querySelectorAll("style, svg, link").forEach(e => e.remove());
  source = "<!DOCTYPE html>\\n" + copy.outerHTML;
}
return {path: location.pathname, search: !!document.querySelector("form.search"), source,
        pieces: shown.map(e => [+e.dataset.n, e.textContent, e.dataset.kind, "clicked" in e.dataset])};
"""
_FIND = """
const found = document.querySelector(arguments[0]);
if (found) found.scrollIntoView({block: "center", behavior: "instant"});
return found;
"""
_EMPTY = "const q = document.getElementById('q'); q.value = ''; q.focus(); return q;"
_PASTE = "if (arguments[0].value !== arguments[1]) arguments[0].value = arguments[1];"


@dataclass(frozen=True)
class Shown:
    """What a page shows, read from the page."""

    path: str
    """Of its address: "/TOKEN/NUMBER"."""
    search: bool
    """It has a search bar."""
    source: str
    """Its HTML without style sheet and drawings, if that was asked for."""
    pieces: tuple[Piece, ...]
    """Visible texts in reading order."""
    clicked: frozenset[str]
    """Options and links among them that were clicked before."""
    numbers: tuple[int, ...]
    """What the page calls each of the pieces."""

    @property
    def things(self) -> dict[str, int]:
        """What can be clicked, lower case, in the order of admissible actions → its number on the page."""
        found: dict[str, int] = {}
        for wanted in ("button", "link", "option"):
            for (text, kind), number in zip(self.pieces, self.numbers, strict=True):
                if kind == wanted and not (kind == "button" and text == SEARCH):
                    found.setdefault(text.strip().lower(), number)
        return found

    def actions(self) -> list[str]:
        """Admissible actions, as `Session.actions` lists them."""
        return [QUERY_FORM] * self.search + [f"click[{thing}]" for thing in self.things]


class Tab:
    """A tab of its own in a shared browser."""

    def __init__(self, browser: Browser) -> None:
        """Raises `BrowserError`."""
        self._browser = browser
        self._number = next(_numbers)
        browser.tabs.add(self._number)
        self._window = ""
        try:
            with self._commands():
                self._open()
        except BaseException:
            self.forget()
            raise

    def _open(self) -> None:
        browser, driver = self._browser, self._browser.driver
        if browser.first:
            self._window, browser.first = browser.first, ""
        else:
            driver.switch_to.new_window("window")  # of two tabs in one window, only one would be drawn
            self._window = browser.current = str(driver.current_window_handle)
        if browser.settings.headless:
            width, height = browser.settings.window
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute("executeCdpCommand", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})

    @property
    def alive(self) -> bool:
        """Nothing of it is known to be broken."""
        return self._browser.alive

    def visit(self, address: str, source: bool = False) -> Shown:
        """Open a page of the shop and read it; `address` ends in "/TOKEN/"."""
        with self._commands() as driver:
            driver.get(address)
            return self._read(f"/{address.rstrip('/').rpartition('/')[2]}/", source)

    def search(self, words: str, shown: Shown, source: bool = False) -> Shown:
        """Type `words` (one line) into the search bar, press Enter, and read the page that comes."""
        with self._commands() as driver:
            field: WebElement = driver.execute_script(_EMPTY)
            if len(words) <= TYPED and all(map(_has_a_key, words)):
                field.send_keys(words)
            driver.execute_script(_PASTE, field, words)
            self._unless_gone(lambda: field.send_keys("\ue007"))
            return self._read(shown.path, source)

    def click(self, number: int, shown: Shown, source: bool = False) -> Shown:
        """Click the piece of that number, and read the page that comes."""
        from selenium.common.exceptions import ElementClickInterceptedException, ElementNotInteractableException

        with self._commands() as driver:
            thing: WebElement | None = driver.execute_script(_FIND, f'[data-n="{number}"]')
            if thing is None:
                raise BrowserError("what was to be clicked is no longer on the page")
            try:
                self._unless_gone(thing.click)
            except (ElementClickInterceptedException, ElementNotInteractableException):
                self._unless_gone(lambda: thing.send_keys("\ue007"))  # hidden by another in a tiny window: by keyboard
            return self._read(shown.path, source)

    def screenshot(self) -> bytes:
        """What is seen of the page, as PNG."""
        with self._commands() as driver:
            return bytes(driver.get_screenshot_as_png())

    def close(self) -> None:
        """Close it, and the browser with the last one; harmless when repeated."""
        self.forget()
        if self._browser.alive:
            with suppress(BrowserError), self._browser.lock:
                _close_windows(self._browser)

    def forget(self) -> None:
        """Close it with the browser's next command; the browser, at once, with the last one. Takes no lock, so that a
        garbage collection may call it at any time."""
        browser = self._browser
        if self._number in browser.tabs:
            browser.tabs.discard(self._number)
            if browser.tabs:
                browser.closing.append(self._window)
            else:
                browser.close()

    def kill(self) -> None:
        """End the whole browser: it broke, and what it still does is not known."""
        self._browser.close()

    @contextmanager
    def _commands(self) -> Iterator[Any]:
        """This tab's turn. What goes wrong becomes a `BrowserError`, and the browser's end."""
        from selenium.common.exceptions import TimeoutException, WebDriverException
        from urllib3.exceptions import HTTPError

        browser = self._browser
        if not browser.alive:
            raise BrowserError("the browser has ended; reset the environment to get a new one")
        with browser.lock:
            try:
                _close_windows(browser)
                if self._window and browser.current != self._window:
                    browser.driver.switch_to.window(self._window)
                    browser.current = self._window
                yield browser.driver
            except TimeoutException as error:
                browser.close()
                raise BrowserError(f"the page did not come within {browser.settings.timeout:g} s") from error
            except (WebDriverException, HTTPError, OSError) as error:
                browser.close()
                raise BrowserError(f"the browser broke: {first_line(error)}") from error
            except (
                BaseException
            ):  # also interrupted between a command and its reply: the next reply would be the wrong one
                browser.close()
                raise

    def _read(self, before: str, source: bool) -> Shown:
        """What the page shows, once it is complete and its path, "/TOKEN/NUMBER", has another number than `before`."""
        from selenium.common.exceptions import (
            JavascriptException,
            NoSuchElementException,
            StaleElementReferenceException,
        )

        token, seconds = before[: before.rindex("/") + 1], self._browser.settings.timeout
        deadline = time.monotonic() + seconds
        while True:
            found: dict[str, Any] | None = None
            with suppress(JavascriptException, NoSuchElementException, StaleElementReferenceException):
                found = self._browser.driver.execute_script(_READ, source)  # raises if the document goes meanwhile
            if found is not None and found["path"] != before and found["path"].startswith(token):
                break
            if time.monotonic() > deadline:
                raise BrowserError(f"the page did not come within {seconds:g} s")
            time.sleep(_PAUSE)
        pieces = [(text, kind) for _, text, kind, _ in found["pieces"]]
        return Shown(
            found["path"],
            found["search"],
            found["source"],
            tuple(pieces),
            frozenset(text for _, text, _, clicked in found["pieces"] if clicked),
            tuple(number for number, *_ in found["pieces"]),
        )

    @staticmethod
    def _unless_gone(act: Callable[[], object]) -> None:
        """Do what may replace the page before the driver has answered."""
        from selenium.common.exceptions import StaleElementReferenceException

        with suppress(StaleElementReferenceException):
            act()


def _has_a_key(letter: str) -> bool:
    """The driver types it as it is: not a control character, nor one of those that stand for keys, nor a rare one."""
    return letter.isprintable() and not "\ue000" <= letter <= "\uf8ff" and letter < "\U00010000"


def _close_windows(browser: Browser) -> None:
    """Close the windows of forgotten tabs."""
    while browser.closing:
        window = browser.closing.pop()
        if window:
            browser.driver.switch_to.window(window)
            browser.current = ""
            browser.driver.close()
