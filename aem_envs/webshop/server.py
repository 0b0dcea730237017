"""A small web server for the shop: loopback only, one secret address per shopper, nothing of the goal or the score.

A shopper's page has the address `/TOKEN/NUMBER`; what is clicked or searched for is sent to `/TOKEN/do`, which answers
with the address of the next page. NUMBER counts what was done: a page that is no longer the newest (a second click, the
back button) changes nothing.
"""

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs

from aem_envs.core import AemEnvError
from aem_envs.webshop.html import CLICK, NEXT_TASK, QUERY, STATE, Links, content_security_policy, page
from aem_envs.webshop.view import View, pieces

HOST = "127.0.0.1"
MAX_BODY = 1 << 18
"""Bytes of the largest form that is read; a query of the longest action fits."""
PATIENCE = 10.0
"""Seconds a client may pause while it sends a request."""
STALE = "That page was not the newest one, so nothing was done. Here is where you are."


class PortInUseError(AemEnvError, OSError):
    """The port asked for is taken, or not allowed; the message says what to do."""


@dataclass
class Desk:
    """What one shopper's pages show and do. Calls come from the server's threads, one at a time."""

    view: Callable[[], View]
    search: Callable[[str], object]
    """Called with the words, lower case and not empty."""
    click: Callable[[str], object]
    """Called with what was clicked, lower case; it is on the page."""
    next_task: Callable[[], object] | None = None
    """Called after the episode has ended; None: the last page offers no next task."""
    over: Callable[[], str] = str
    """Why the episode has ended without a purchase; "" while it has not."""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.token = secrets.token_urlsafe(24)
        self.number = 0
        """How much was done: the number of the state that the page shows."""

    def page(self, notice: str) -> str:
        """The newest page."""
        with self.lock:
            links = Links(self.number, notice, self.next_task is not None, self.over())
            return page(self.view(), links)

    def do(self, form: dict[str, list[str]]) -> bool:
        """Do what a page sent; False, and nothing done, if it was not the newest page or had no such thing."""
        with self.lock:
            if form.get(STATE) != [str(self.number)] or not self._act(form):
                return False
            self.number += 1
            return True

    def _act(self, form: dict[str, list[str]]) -> bool:
        view, over = self.view(), bool(self.over())
        if NEXT_TASK in form:
            if self.next_task is None or not (over or view.page == "done"):
                return False
            self.next_task()
        elif over or view.page == "done":
            return False
        elif words := form.get(QUERY, [""])[0]:
            self.search(words.lower())
        else:
            (number,) = form.get(CLICK, [""])[:1]
            found = pieces(view)
            if not (number.isascii() and number.isdigit() and len(number) < 6 and int(number) < len(found)):
                return False
            thing, kind = found[int(number)]
            if kind == "text" or view.page == "home":
                return False
            self.click(thing.strip().lower())
        return True


class ShopServer:
    """Serves the pages of any number of desks from threads of this process, until `close`."""

    def __init__(self, port: int = 0) -> None:
        """`port` 0 takes a free one.

        Raises:
            PortInUseError: the port is taken, or may not be used.
        """
        try:
            self._server = _Server((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise PortInUseError(
                f"cannot serve the shop on {HOST}:{port} ({getattr(error, 'strerror', None) or error}): "
                "choose another port, or port 0 for any free one"
            ) from error
        self._owner, self._closed = os.getpid(), False
        self.port: int = self._server.server_address[1]
        self._server.names = {f"{HOST}:{self.port}", f"localhost:{self.port}"}
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="webshop-server", daemon=True
        )
        self._thread.start()

    def open(self, desk: Desk) -> str:
        """Serve a desk; returns the address of its newest page, whichever that is."""
        self._server.desks[desk.token] = desk
        return f"http://{HOST}:{self.port}/{desk.token}/"

    def shut(self, desk: Desk) -> None:
        """Serve a desk no more; harmless when repeated."""
        self._server.desks.pop(desk.token, None)

    @property
    def idle(self) -> bool:
        """No desk is open."""
        return not self._server.desks

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closed

    def close(self) -> None:
        """Stop serving and free the port; harmless when repeated."""
        self._closed = True
        self._server.desks.clear()
        if self._owner == os.getpid() and self._thread.is_alive():
            if self._thread is threading.current_thread():  # a garbage collection may call from anywhere
                threading.Thread(target=self.close, daemon=True).start()
                return
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name == "posix"  # where it means: a port that was just closed is free
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.desks: dict[str, Desk] = {}
        self.names: set[str] = set()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the name look-up of the class above, which may ask a name server."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or sent nonsense, is none of the shop's business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "WebShop", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        """A shopper's page; an old one's address leads to the newest."""
        desk, rest = self._desk()
        if desk is None:
            return
        number, _, query = rest.partition("?")
        if number == str(desk.number):
            self._send(200, desk.page(STALE if query == "stale" else "").encode("utf-8", "replace"))
        elif number == "" or number.isdigit():
            self._redirect(desk, stale=number != "")
        else:
            self._refuse(404, "There is no such page.")

    def do_POST(self) -> None:
        """Something clicked or searched for."""
        desk, rest = self._desk()
        if desk is None:
            return
        length = self.headers.get("Content-Length", "")
        if rest != "do" or not length.isdecimal() or len(length) > 9 or int(length) > MAX_BODY:
            self._refuse(400, "That is no form of this shop.")
            return
        body = self.rfile.read(int(length))
        try:
            form = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=8)
        except ValueError:
            self._refuse(400, "That is no form of this shop.")
            return
        self._redirect(desk, stale=not desk.do(form))

    def _desk(self) -> tuple[Desk | None, str]:
        """The desk that the path names, and the rest of the path; refuses what does not come from its own pages."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host not in self.server.names or origin not in (None, f"http://{host}"):
            self._refuse(403, "This address is for the shop's own pages only.")
            return None, ""
        token, _, rest = self.path.removeprefix("/").partition("/")
        desk = self.server.desks.get(token)
        if desk is None:
            self._refuse(404, "There is no such page. The shop may have been closed.")
        return desk, rest

    def _redirect(self, desk: Desk, stale: bool) -> None:
        self._send(303, b"", ("Location", f"/{desk.token}/{desk.number}{'?stale' if stale else ''}"))

    def _refuse(self, status: int, why: str) -> None:
        self._send(status, f"<!doctype html><meta charset=utf-8><title>WebShop</title><p>{why}".encode())

    def _send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*_HEADERS, *headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", content_security_policy())
        self.end_headers()
        with suppress(OSError):  # the client went away
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""


_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Connection", "close"),
)
