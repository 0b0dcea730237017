"""A Chromium with its driver, under guard, shared by a few tabs; whatever ends this process ends them."""

import importlib.util
import os
import re
import select
import shutil
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aem_envs.core import AemEnvError, BadOptionError, InfrastructureError
from aem_envs.webshop.browser.guard import clear

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

    from aem_envs.webshop.browser.driver import Tab

TABS = 4
"""Tabs that share a browser; they take turns, more of them would wait for each other."""
_START = 60.0
"""Seconds that driver and browser may take to start."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--no-sandbox",  # root and most containers cannot have one; only the shop's own pages are ever opened
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--disable-features=Translate,OptimizationHints,MediaRouter,PaintHolding",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--password-store=basic",
    "--use-mock-keychain",
    "--mute-audio",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing but the shop can be reached
)


class BrowserError(InfrastructureError):
    """The browser or its driver broke or was too slow; a new episode gets a new browser."""


class BrowserMissingError(AemEnvError):
    """Selenium, Chromium or its driver is not installed; the message says how to install it."""


@dataclass(frozen=True)
class BrowserSettings:
    """What browser there shall be."""

    chromium: str
    """Path of the browser."""
    chromedriver: str
    """Path of its driver, of the same version."""
    headless: bool = True
    """Without a visible window."""
    window: tuple[int, int] = (1024, 768)
    """Width and height of a page in pixels."""
    timeout: float = 30.0
    """Seconds a page, or any one command, may take."""


def find_browser(
    chromium: str | None, chromedriver: str | None, headless: bool, window: tuple[int, int] | str, timeout: float
) -> BrowserSettings:
    """Settings with the programs found on this machine; nothing is ever downloaded.

    Raises:
        BrowserMissingError: a program or package is missing.
        BadOptionError: no size of a window, or no time.
    """
    if isinstance(window, str) and (written := re.fullmatch(r"(\d{3,4})x(\d{3,4})", window, re.ASCII)):
        window = int(written[1]), int(written[2])  # as a command line gives it
    sides = list(window) if isinstance(window, tuple | list) else []
    if len(sides) != 2 or not all(type(side) is int and 200 <= side <= 8000 for side in sides):
        raise BadOptionError(f"window is (width, height) or WIDTHxHEIGHT in pixels from 200 to 8000, not {window!r}")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 86_400:
        raise BadOptionError(f"page_timeout is a number of seconds above 0, not {timeout!r}")
    missing = [name for name in ("selenium", "PIL") if importlib.util.find_spec(name) is None]
    if missing:
        raise BrowserMissingError(
            f'{" and ".join(missing)} not installed: pip install "aem-suite[webshop]"; aem/WebShop-v0 needs no browser'
        )
    return BrowserSettings(
        _program("Chromium", "chromium", chromium, _BROWSERS),
        _program("its driver", "chromedriver", chromedriver, ("chromedriver",)),
        bool(headless),
        (sides[0], sides[1]),
        float(timeout),
    )


def _program(what: str, setting: str, given: str | None, names: tuple[str, ...]) -> str:
    if given is not None and not isinstance(given, str | os.PathLike):
        raise BadOptionError(f"{setting} is the path of a program, not {given!r}")
    for name in (given,) if given else names:
        if path := shutil.which(name):
            return str(Path(path).absolute())
    raise BrowserMissingError(
        f"{what} not found ({given or ' or '.join(names)}): install it (Debian: apt-get install chromium "
        f"chromium-driver) or say where it is with {setting}=PATH; aem/WebShop-v0 needs no browser"
    )


class Browser:
    """One browser process. Its tabs' commands are given under `lock`."""

    def __init__(self, settings: BrowserSettings) -> None:
        """Start it, which takes a second or two. Raises `BrowserError`."""
        self.settings = settings
        self.lock = threading.RLock()
        self.tabs: set[int] = set()
        """Numbers of the tabs in use."""
        self.closing: list[str] = []
        """Windows of tabs that are no longer used; closed before the next command."""
        self.current = ""
        """The window that commands go to."""
        self._owner = os.getpid()
        script = str(Path(__file__).with_name("guard.py"))
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", script, str(self._owner), settings.chromedriver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is this process's to handle
        )
        self._folder: list[str] = []
        self._finalizer = weakref.finalize(self, _let_go, self._guard, self._owner, self._folder)
        try:
            folder, port = self._heard()
            self.driver = _connect(settings, folder, port)
            self.first = self.current = str(self.driver.current_window_handle)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """It has not been closed, nor seen to break, and is this process's own."""
        return self._finalizer.alive and self._owner == os.getpid() and self._guard.poll() is None

    def close(self) -> None:
        """Kill browser and driver, remove their folder; harmless when repeated."""
        self._finalizer()

    def _heard(self) -> tuple[str, int]:
        """The guard's folder and the driver's port."""
        assert self._guard.stdout is not None
        source, heard = self._guard.stdout.fileno(), b""
        deadline = time.monotonic() + _START
        while heard.count(b"\n") < 2:
            if not select.select([source], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise BrowserError(f"{self.settings.chromedriver} did not start within {_START:g} s")
            chunk = os.read(source, 1 << 12)
            if not chunk:
                raise BrowserError(f"{self.settings.chromedriver} ended as it started: is it a ChromeDriver?")
            heard += chunk
            if b"\n" in heard and not self._folder:
                self._folder.append(heard.partition(b"\n")[0].decode())
        return self._folder[0], int(heard.splitlines()[1])


def _connect(settings: BrowserSettings, folder: str, port: int) -> "WebDriver":
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver import ChromeOptions, Remote
    from selenium.webdriver.chrome.remote_connection import ChromeRemoteConnection
    from selenium.webdriver.common.proxy import Proxy
    from selenium.webdriver.remote.client_config import ClientConfig
    from selenium.webdriver.remote.file_detector import UselessFileDetector
    from urllib3.exceptions import HTTPError

    options = ChromeOptions()
    options.binary_location = settings.chromium
    options.page_load_strategy = "none"  # tabs wait for more than the driver would
    width, height = settings.window
    shown = ("--headless=new",) if settings.headless else ()
    for flag in (*_FLAGS, *shown, f"--window-size={width},{height}", f"--user-data-dir={folder}/profile"):
        options.add_argument(flag)
    config: Any = ClientConfig(
        f"http://127.0.0.1:{port}", proxy=Proxy({"proxyType": "DIRECT"}), timeout=int(_START + settings.timeout)
    )
    connection = ChromeRemoteConnection(config.remote_server_addr, client_config=config)
    try:
        # without the detector, words that happen to be a file's name would be uploaded instead of typed
        driver = Remote(connection, options=options, file_detector=UselessFileDetector())
        driver.set_script_timeout(settings.timeout)
        driver.set_page_load_timeout(settings.timeout)
    except (WebDriverException, HTTPError, OSError) as error:
        raise BrowserError(f"{settings.chromium} did not start: {first_line(error)}") from error
    return driver


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(getattr(error, "msg", None) or error).strip().splitlines() or [type(error).__name__])[0][:300]


def _let_go(guard: "subprocess.Popen[bytes]", owner: int, folder: list[str]) -> None:
    """Let the guard clear up, and wait for it; a forked child of the owner only drops its copy of the pipes."""
    if guard.stdin is not None:
        with suppress(OSError):
            guard.stdin.close()
    if os.getpid() == owner:
        try:
            guard.wait(_START)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
        if guard.returncode < 0 and folder:  # it was killed itself: do its work
            clear(folder[0])
    if guard.stdout is not None:
        with suppress(OSError):
            guard.stdout.close()


_lock = threading.RLock()
_browsers: list[Browser] = []


def open_tab(settings: BrowserSettings) -> "Tab":
    """A tab of a browser with room for one; if there is none, of a new browser.

    Raises:
        BrowserError: no browser, or no tab, could be opened.
    """
    from aem_envs.webshop.browser.driver import Tab

    with _lock:
        _browsers[:] = [browser for browser in _browsers if browser.alive]
        for browser in _browsers:
            if browser.settings == settings and len(browser.tabs) < TABS:
                with suppress(BrowserError):  # one that died unseen; the next, or a new one, will do
                    return Tab(browser)
        browser = Browser(settings)
        _browsers.append(browser)
        return Tab(browser)


def _forget() -> None:
    """In a forked child: the browsers are the parent's."""
    global _lock
    _lock = threading.RLock()
    _browsers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
