"""The shop's server: who is let in, what a page may do, and what it survives.

(Over 300 lines: one server, asked in every wrong way with the same few helpers.)
"""

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from small_shop import small_shop

from aem_envs.webshop import server as server_module
from aem_envs.webshop.server import MAX_BODY, Desk, PortInUseError, ShopServer
from aem_envs.webshop.session import Session
from aem_envs.webshop.view import pieces
from aem_suite.envs_cli import main


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return small_shop(tmp_path_factory.mktemp("shop") / "store")


@pytest.fixture
def server():
    running = ShopServer()
    yield running
    running.close()


@pytest.fixture
def session(shop):
    return Session(shop, "i want <a> shirt", "task")


@pytest.fixture
def desk(server, session):
    desk = Desk(session.view, session.search, session.click)
    server.open(desk)
    return desk


def ask(server, path, form=None, **headers):
    """(status, headers, text) of one request, redirects not followed."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(connection):
        body = None if form is None else urlencode(form)
        connection.request("GET" if form is None else "POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def do(server, desk, state, **form):
    """Send a form; returns where it leads to, without the token."""
    status, headers, _ = ask(server, f"/{desk.token}/do", {"state": state, **form})
    assert status == 303
    return headers["Location"].removeprefix(f"/{desk.token}/")


def number(session, thing):
    return [text.lower() for text, _ in pieces(session.view())].index(thing)


def test_a_shopper_searches_clicks_and_buys(server, desk, session):
    status, headers, _ = ask(server, f"/{desk.token}/")
    assert status == 303 and headers["Location"] == f"/{desk.token}/0"
    status, headers, text = ask(server, f"/{desk.token}/0")
    assert status == 200 and "i want &lt;a&gt; shirt" in text and 'data-state="0"' in text
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
    assert do(server, desk, 0, q="Plain  Shirt ") == "1" and session.query == "plain  shirt "
    assert do(server, desk, 1, click=number(session, "b00shirt00")) == "2" and session.page == "item"
    assert do(server, desk, 2, click=number(session, "red")) == "3" and session.options == {"color": "red"}
    assert do(server, desk, 3, click=number(session, "buy now")) == "4" and session.page == "done"
    assert "Thank you" in ask(server, f"/{desk.token}/4")[2]
    assert do(server, desk, 4, q="more") == do(server, desk, 4, next="1") == "4?stale", "nothing follows"


def test_old_pages_and_double_clicks_do_nothing(server, desk, session):
    do(server, desk, 0, q="shirt")
    following = number(session, "next >")
    assert do(server, desk, 1, click=following) == "2"
    assert do(server, desk, 1, click=following) == "2?stale" and session.number == 2
    assert "nothing was done" in ask(server, f"/{desk.token}/2?stale")[2]
    status, headers, _ = ask(server, f"/{desk.token}/1")
    assert status == 303 and headers["Location"].endswith("/2?stale"), "the back button"
    clicks = [threading.Thread(target=do, args=(server, desk, 2), kwargs={"click": following}) for _ in range(8)]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()
    assert desk.number == 3, "of eight clicks at once, one"


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"q": ""},
        {"click": "-1"},
        {"click": "99999"},
        {"click": "9" * 5000},
        {"click": "²"},
        {"click": "next >"},
        {"click": "0"},
        {"next": "1"},
        {"click": "", "q": ""},
    ],
)
def test_what_is_not_on_the_page_cannot_be_clicked(server, desk, session, form):
    do(server, desk, 0, q="shirt")
    before = session.text(), session.anchor()
    assert do(server, desk, 1, **form) == "1?stale"
    assert (session.text(), session.anchor()) == before


@pytest.mark.parametrize("state", ["", "1 ", "+1", "0", "2", "x", "1e0"])
def test_only_the_newest_state_counts(server, desk, session, state):
    do(server, desk, 0, q="shirt")
    assert do(server, desk, state, q="hat") == "1?stale" and session.query == "shirt"


def test_strangers_are_kept_out(server, desk, session):
    form = {"state": 0, "q": "shirt"}
    for path in ("/", "/0", "/x/", "/x/do", f"/{desk.token}x/0", f"/{desk.token[:-1]}/0", "/../etc/passwd"):
        assert ask(server, path)[0] == ask(server, path, form)[0] == 404, path
    for path in (f"/{desk.token}/x", f"/{desk.token}/do"):
        assert ask(server, path)[0] == 404
    assert ask(server, f"/{desk.token}/0", form)[0] == 400
    for host in ("evil.example", f"evil.example:{server.port}", f"127.0.0.1:{server.port + 1}", "127.0.0.1", ""):
        assert ask(server, f"/{desk.token}/0", Host=host)[0] == 403, host
        assert ask(server, f"/{desk.token}/do", form, Host=host)[0] == 403, host
    for origin in ("null", "http://evil.example", f"https://127.0.0.1:{server.port}"):
        assert ask(server, f"/{desk.token}/do", form, Origin=origin)[0] == 403, origin
    assert session.page == "home" and desk.number == 0
    good = f"127.0.0.1:{server.port}"
    assert ask(server, f"/{desk.token}/do", form, Host=good, Origin=f"http://{good}")[0] == 303
    assert socket.gethostbyname("localhost") != "127.0.0.1" or server._server.server_address[0] == "127.0.0.1"


def test_desks_are_apart_and_can_be_shut(server, shop, desk, session):
    other = Session(shop, "i want a hat", "task")
    second = Desk(other.view, other.search, other.click)
    server.open(second)
    do(server, second, 0, q="hat")
    assert session.page == "home" and other.page == "results"
    server.shut(second)
    server.shut(second)
    assert ask(server, f"/{second.token}/1")[0] == 404 and ask(server, f"/{desk.token}/0")[0] == 200
    assert not server.idle
    server.shut(desk)
    assert server.idle


def test_malformed_and_slow_requests_do_not_take_it_down(server, desk, monkeypatch):
    monkeypatch.setattr(server_module._Handler, "timeout", 0.3)
    path = f"/{desk.token}/do"
    host = f"Host: 127.0.0.1:{server.port}\r\n"
    nonsense = [
        b"",
        b"\x00\xff\n\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"BREW /tea HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000,
        f"POST {path} HTTP/1.1\r\n{host}\r\n".encode(),
        f"POST {path} HTTP/1.1\r\n{host}Content-Length: 50\r\n\r\nstate=0&q=".encode(),
        f"POST {path} HTTP/1.1\r\n{host}Content-Length: -5\r\n\r\nstate=0&q=a".encode(),
        f"POST {path} HTTP/1.1\r\n{host}Content-Length: ²\r\n\r\nstate=0&q=a".encode("latin-1"),
        f"POST {path} HTTP/1.1\r\n{host}Content-Length: {MAX_BODY + 1}\r\n\r\n".encode(),
        f"POST {path} HTTP/1.1\r\n{host}Content-Length: 11\r\n\r\nstate=0&q=\xff".encode("latin-1"),
        f"POST {path} HTTP/1.1\r\n{host}Content-Length: 9\r\n\r\n&&&&&&&&&".encode(),
    ]
    for line in nonsense:
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw,
            contextlib.suppress(OSError),
        ):
            raw.sendall(line)
            raw.recv(100)
    waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
    try:
        assert ask(server, f"/{desk.token}/0")[0] == 200, "while forty say nothing"
    finally:
        for raw in waiting:
            raw.close()
    assert desk.number == 0


def test_a_shop_that_fails_fails_one_request(server, session):
    def broken():
        raise ValueError("broken")

    desk = Desk(broken, session.search, session.click)
    server.open(desk)
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(server, f"/{desk.token}/0")
    healthy = Desk(session.view, session.search, session.click)
    server.open(healthy)
    assert ask(server, f"/{healthy.token}/0")[0] == 200


def test_any_query_arrives_as_it_was_typed(server, desk, session):
    for state, words in enumerate(["a+b & c=d%20", " é𝄞 ", "\x00\t;", "<r> x", "x" * 10_000, "𝄞" * 10_000]):
        assert do(server, desk, state, q=words) == str(state + 1)
        assert session.query == words.lower()
        status, _, text = ask(server, f"/{desk.token}/{state + 1}")
        assert status == 200 and "<r>" not in text


def test_the_next_task_and_the_end_without_a_purchase(server, session):
    started, over = [], [""]
    desk = Desk(session.view, session.search, session.click, lambda: started.append(1), lambda: over[0])
    server.open(desk)
    assert do(server, desk, 0, next="1") == "0?stale" and not started
    over[0] = "time is up"
    text = ask(server, f"/{desk.token}/0")[2]
    assert "time is up" in text and "Next task" in text and not re.search('class="search"', text)
    assert do(server, desk, 0, q="shirt") == "0?stale" and session.page == "home"
    assert do(server, desk, 0, next="1") == "1" and started == [1]


def test_a_port_in_use_is_a_clear_error(server):
    with pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{server.port} .*choose another port"):
        ShopServer(server.port)
    with pytest.raises(PortInUseError):
        ShopServer(70_000)
    port = server.port
    server.close()
    server.close()
    again = ShopServer(port)
    assert again.port == port
    again.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_no_goal_and_no_score_in_any_answer(server):
    """Of a whole episode on the environment's own goal, nothing but the instruction reaches the pages."""
    import aem_envs

    env = aem_envs.make_env("aem/WebShop-v0")
    env.reset(seed=5)
    desk = Desk(env.session.view, env.session.search, env.session.click)
    server.open(desk)
    for state, thing in enumerate(("", "link", "buy now", "done")):
        text = ask(server, f"/{desk.token}/{state}")[2].lower().replace(env.goal.instruction.lower(), "")
        assert not any(word in text for word in ("reward", "score", str(env.goal.price_upper)))
        assert thing in ("link", "buy now") or env.goal.asin.lower() not in text
        if thing == "":
            do(server, desk, state, q="black")
        elif thing == "link":
            do(server, desk, state, click=[kind for _, kind in pieces(env.session.view())].index("link"))
        elif thing != "done":
            do(server, desk, state, click=number(env.session, thing))
    assert env.session.page == "done"


def test_a_person_shops_and_the_terminal_tells():
    """`aem-envs play aem/WebShop-v0 --browser`, with a purchase, the next task, running out of steps, and Ctrl-C."""
    command = [sys.executable, "-m", "aem_suite.envs_cli", "play", "aem/WebShop-v0", "--browser", "--no-open"]
    task = ["--seed", "3", "--env", "max_steps=3"]
    process = subprocess.Popen([*command, *task], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", process.stdout.readline())
        port, token = int(address[1]), address[2]
        there = SimpleNamespace(port=port, token=token)
        assert do(there, there, 0, q="Black Shoes") == "1"
        text = ask(there, f"/{token}/1")[2]
        link = re.search(r'value="(\d+)" data-n="\d+" data-kind="link"', text)[1]
        assert do(there, there, 1, click=link) == "2"
        text = ask(there, f"/{token}/2")[2]
        buy = re.search(r'value="(\d+)"[^>]*>Buy Now', text)[1]
        assert do(there, there, 2, click=buy) == "3"
        assert "Next task" in ask(there, f"/{token}/3")[2]
        assert do(there, there, 3, next="1") == "4"
        for state in range(4, 7):
            do(there, there, state, q="lamp")
        assert "The end: a task has 3 steps." in ask(there, f"/{token}/7")[2]
        told = list(iter(process.stdout.readline, "Stopped after 3 steps (max_steps), reward 0.\n"))
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    told = "".join(told)
    assert "> search[black shoes]\n> click[b0" in told and "> click[buy now]\nNot quite after 3 steps, reward" in told
    assert told.count("[1000/human/") == 2 and not rest
    assert process.returncode == 130 and "Traceback" not in errors


def test_playing_in_a_browser_is_for_the_shop_only(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["play", *arguments])
        return stop.value.code, capsys.readouterr().err

    code, error = call("aem/Toy-v0", "--browser")
    assert code == 2 and "aem/WebShop-v0" in error
    code, error = call("aem/WebShop-v0", "--port", "8000")
    assert code == 2 and "go with --browser" in error
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, error = call("aem/WebShop-v0", "--browser", "--no-open", "--port", str(taken.getsockname()[1]))
    assert code == 2 and "choose another port" in error
