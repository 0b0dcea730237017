"""`aem/WebShopBrowser-v0`: the tasks of `aem/WebShop-v0` in a real web shop, in Chromium."""

import os
import threading
import weakref
from collections.abc import Callable
from io import BytesIO
from typing import Any, Literal, NoReturn

import numpy as np

from aem_envs.core import BadOptionError, Capabilities, ResetNeededError, TextEnv
from aem_envs.webshop.browser.driver import Shown, Tab
from aem_envs.webshop.browser.process import BrowserError, find_browser, open_tab
from aem_envs.webshop.env import ObservationMode, WebShopEnv
from aem_envs.webshop.server import Desk, ShopServer
from aem_envs.webshop.session import Session
from aem_envs.webshop.sources import SourceName
from aem_envs.webshop.view import View, joined, marked, url
from envs_data.webshop.nouns import TaggerName
from envs_data.webshop.product import GoalKind


class WebShopBrowserEnv(WebShopEnv):
    """WebShop in Chromium: actions are typed and clicked in a real page, observations are read from it.

    Tasks, actions, observations, rewards and `info` are those of aem/WebShop-v0. The shop's server is part of this
    process, on the loopback address only. A browser that breaks ends the episode, truncated with a reason that begins
    with infra:, and the next one gets a new browser. Up to four environments of a process share a browser.

    Keyword arguments: those of aem/WebShop-v0, and
        observation_mode: in "html" it is the page's source, without its style sheet and drawings.
        render_mode: also "rgb_array": what the window shows, as uint8 of shape (height, width, 3).
        headless: False shows the browser's window (True).
        window: Width and height of the page in pixels ((1024, 768)), or "1024x768".
        port: Port of the shop's server; 0 (default) is any free one.
        chromium, chromedriver: Paths of the programs; default: those on the PATH.
        page_timeout: Seconds that a page may take (30).
    """

    capabilities = Capabilities(snapshot=True, admissible_actions=True, rgb_array=True)
    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's own declaration)
        **TextEnv.metadata,
        "render_modes": [*TextEnv.metadata["render_modes"], "rgb_array"],
    }

    def __init__(
        self,
        *,
        source: SourceName = "embedded",
        split: str | None = None,
        products: int | None = None,
        goals: GoalKind = "human",
        observation_mode: ObservationMode = "text",
        compat: Literal["original"] | None = None,
        tagger: TaggerName = "auto",
        data: str | None = None,
        cache: str | None = None,
        max_steps: int = 15,
        render_mode: str | None = None,
        headless: bool = True,
        window: tuple[int, int] | str = (1024, 768),
        port: int = 0,
        chromium: str | None = None,
        chromedriver: str | None = None,
        page_timeout: float = 30.0,
    ) -> None:
        """Raises `BrowserMissingError`, which says what to install; and what aem/WebShop-v0 raises."""
        super().__init__(
            source=source,
            split=split,
            products=products,
            goals=goals,
            observation_mode=observation_mode,
            compat=compat,
            tagger=tagger,
            data=data,
            cache=cache,
            max_steps=max_steps,
            render_mode=render_mode,
        )
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65_536:
            raise BadOptionError(f"port is a number from 0 to 65535, not {port!r}")
        self._browser = find_browser(chromium, chromedriver, headless, window, page_timeout)
        self._engine += "/chromium"
        self._visit = _Visit(port)
        self._shown: Shown | None = None
        weakref.finalize(self, self._visit.end, tidy=False)

    def render(self) -> Any:
        """As aem/WebShop-v0; in mode `rgb_array` an array of uint8, height x width x 3.

        Raises:
            ResetNeededError: before the first reset, or after `close`.
            BrowserError: the browser broke.
        """
        if self.render_mode != "rgb_array":
            return super().render()
        if self._visit.tab is None:
            raise ResetNeededError("nothing to render: call reset first")
        from PIL import Image

        with Image.open(BytesIO(self._visit.tab.screenshot())) as picture:
            return np.asarray(picture.convert("RGB"))

    def close(self) -> None:
        """End the episode, and the browser unless others share it; harmless when repeated."""
        super().close()
        self._visit.end(tidy=True)

    def __getstate__(self) -> NoReturn:
        raise TypeError(
            "an environment with a browser cannot be copied or pickled: make another one, and use set_state"
        )

    def _start(self, split: str, number: int, session: Session) -> None:
        super()._start(split, number, session)
        me = weakref.ref(self)  # the server must not keep the environment alive

        def view() -> View:
            env = me()
            return session.view(env._leak() if env else None, original=env is not None and env.compat is not None)

        desk = Desk(view, session.search, session.click)
        try:
            self._enter(desk)
        except BrowserError:  # the last episode's browser may have died unseen: once more, with a new one
            self._enter(desk)

    def _enter(self, desk: Desk) -> None:
        try:
            address = self._visit.serve(desk)
            tab = self._visit.tab = self._visit.tab or open_tab(self._browser)
            self._shown = tab.visit(address, self.mode == "html")
        except BrowserError:
            self._visit.lose_tab()
            raise

    def _leak(self) -> str | None:
        return str(self._judge().reward) if self.compat and self.session.page == "done" else None

    def _search(self, words: str) -> None:
        self._act(lambda tab, shown: tab.search(words, shown, self.mode == "html"))

    def _click(self, thing: str) -> bool:
        assert self._shown is not None
        number = self._shown.things.get(thing)
        if number is not None:
            self._act(lambda tab, shown: tab.click(number, shown, self.mode == "html"))
        return number is not None

    def _act(self, act: Callable[[Tab, Shown], Shown]) -> None:
        tab, shown = self._visit.tab, self._shown
        if tab is None or shown is None:
            raise BrowserError("the browser has ended; reset the environment to get a new one")
        try:
            self._shown = act(tab, shown)
        except BrowserError:
            self._visit.lose_tab()
            raise

    def _actions(self) -> list[str]:
        assert self._shown is not None
        return self._shown.actions()

    def _observe(self) -> tuple[str, str]:
        shown = self._shown
        assert shown is not None
        raw = joined(shown.pieces)
        match self.mode:
            case "text":
                return raw, raw
            case "text_rich":
                return marked(shown.pieces, shown.clicked), raw
            case "html":
                return shown.source, raw
        return url(self.session.view(), str(self._number)), raw


class _Visit:
    """What an environment holds of the world: a desk at a server, and a tab."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: ShopServer | None = None
        self._desk: Desk | None = None
        self.tab: Tab | None = None

    def serve(self, desk: Desk) -> str:
        """Serve `desk` in place of the one before; returns its address."""
        server = _server(self._port)
        address = server.open(desk)
        if self._server is not None and self._desk is not None and self._desk is not desk:
            self._server.shut(self._desk)
        self._server, self._desk = server, desk
        return address

    def lose_tab(self) -> None:
        """The tab broke: end its browser."""
        if self.tab is not None:
            self.tab.kill()
            self.tab.forget()
            self.tab = None

    def end(self, tidy: bool) -> None:
        """Give all back. `tidy`: close the tab now; otherwise (garbage collection) without waiting for anything."""
        if self.tab is not None:
            if tidy:
                self.tab.close()
            else:
                self.tab.forget()
            self.tab = None
        if self._server is not None and self._desk is not None:
            self._server.shut(self._desk)
            if self._server.idle:
                self._server.close()
        self._server = self._desk = None


_lock = threading.RLock()
_servers: dict[tuple[int, int], ShopServer] = {}


def _server(port: int) -> ShopServer:
    """The server of this process for a port that was asked for. Raises `PortInUseError`."""
    with _lock:
        key = os.getpid(), port
        server = _servers.get(key)
        if server is None or server.closed:
            server = _servers[key] = ShopServer(port)
        return server
