"""The viewer's page in a real Chromium, driven as a person would: keys, clicks, and looking."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aem_envs.webshop.browser.process import Browser, BrowserMissingError, find_browser

WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
window.failures = [];
window.addEventListener('error', (event) => window.failures.push(String(event.message)));
window.addEventListener('unhandledrejection', (event) => window.failures.push(String(event.reason)));
"""


def open_browser() -> Browser:
    try:
        return Browser(find_browser(None, None, True, (1280, 800), 30.0))
    except BrowserMissingError as error:
        pytest.skip(f"no browser on this machine: {error}")


def a_window() -> Iterator["Window"]:
    """A window of a browser of its own, which keeps its files where nobody else's are; for fixtures."""
    with tempfile.TemporaryDirectory(prefix="aem-t-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        browser = open_browser()
        try:
            yield Window(browser)
        finally:
            browser.close()


class Window:
    """What a person does with a page. Everything waits until it shows what was asked for."""

    def __init__(self, browser: Browser) -> None:
        self.driver = browser.driver
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        self.size(1280, 800)

    def cdp(self, command: str, **params: Any) -> None:
        self.driver.execute("executeCdpCommand", {"cmd": command, "params": params})

    def size(self, width: int, height: int) -> None:
        self.cdp(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
        )

    def open(self, page: Path, fragment: str = "") -> None:
        self.driver.get("about:blank")  # else only the fragment would change
        self.driver.get(page.resolve().as_uri() + fragment)
        self.until(lambda: self.run("return performance.getEntriesByName('aem-list').length === 1"))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)  # type: ignore[no-untyped-call]

    def until(self, holds: Callable[[], Any], seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"this did not come: {self.text('body')[:2000]}"
            time.sleep(0.02)

    def keys(self, *keys: str) -> None:
        """Typed one after the other, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        self.driver.find_element("css selector", selector).click()

    def choose(self, name: str, value: str) -> None:
        """Of a drop-down list."""
        script = """const list = document.querySelector(`select[name=${arguments[0]}]`);
            list.value = arguments[1]; list.dispatchEvent(new Event('change'))"""
        self.run(script, name, value)

    def text(self, selector: str) -> str:
        """What is shown of the first such element; empty if there is none."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def texts(self, selector: str) -> list[str]:
        """What is shown of all such elements in sight, in order on the page."""
        script = """return [...document.querySelectorAll(arguments[0])].filter((e) => e.offsetParent)
            .map((e) => [e.getBoundingClientRect().top, e.innerText]).sort((a, b) => a[0] - b[0]).map(([, t]) => t)"""
        return list(self.run(script, selector))

    def shows(self, selector: str, words: str) -> None:
        self.until(lambda: words in self.text(selector))

    @property
    def fragment(self) -> str:
        return str(self.run("return location.hash"))

    def overflows(self) -> list[str]:
        """Elements that reach out of the window to the right, outside of what scrolls by itself."""
        script = """const found = [];
            for (const e of document.querySelectorAll('body *')) {
              if (!e.offsetParent || e.closest('.scroll, pre, .away')) continue;
              if (e.getBoundingClientRect().right > innerWidth + 0.5) found.push(e.tagName + '.' + e.className);
            }
            if (document.documentElement.scrollWidth > innerWidth) found.push('the page');
            return found"""
        return list(self.run(script))

    def troubles(self) -> list[str]:
        """Errors and breaches of the page's policy so far, and requests other than for the page itself."""
        script = """return [...window.violations, ...window.failures,
            ...performance.getEntriesByType('resource').map((entry) => entry.name)]"""
        return list(self.run(script))
