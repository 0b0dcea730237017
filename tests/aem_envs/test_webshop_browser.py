"""`aem/WebShopBrowser-v0`: equal to the text environment on every page, and nothing left behind however it ends."""

import contextlib
import copy
import gc
import json
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import aem_envs
from aem_envs.core import BadOptionError, ResetNeededError
from aem_envs.webshop.browser.guard import PREFIX
from aem_envs.webshop.browser.process import TABS, BrowserError, BrowserMissingError
from aem_envs.webshop.server import PortInUseError

ROOT = Path(__file__).resolve().parents[2]
ODD_QUERIES = [
    'search[men\'s "shirt"]',
    "search[<script>alert(1)</script>]",
    "search[&amp; &lt; %20 + a=b;c#d?]",
    "search[кофе 咖啡 café ñ]",
    "search[𝄞 🎧 headphones]",
    "search[\u202eevil\u202c \u200b shirt]",
    "search[\ue007 \uf8ff shirt]",  # the driver's own names of keys
    "search[  black   shoes  ]",
    "search[ ]",
    "search[tab\tand\nline\rbreaks\x00\x01]",
    "search[/etc/passwd]",  # a file's name is typed, not uploaded
    "search[<r> x]",
    "search[<r> a\nb]",
    "search[<c> beauty]",
    "search[<q> men's hoodies]",
    "search[<q> nothing]",
    "search[<c>]",
    "search[[nested] brackets]",
    "search[" + "long " * 1900 + "query]",
    "search[" + "x" * 9_000 + "]",
    "search[İSTANBUL ẞ]",
]
INVALID = [
    "",
    "look",
    "search[]",
    "click[]",
    "click[nothing]",
    "click[search]",
    "Search[shirt]",
    "buy[it]",
    "click[ ]",
    None,
]


def made(env_id="aem/WebShopBrowser-v0", **settings):
    try:
        return aem_envs.make_env(env_id, **settings)
    except BrowserMissingError as error:
        pytest.skip(f"no browser on this machine: {error}")


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory):
    """Browsers of these tests keep their folders where nobody else's are."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="aem-t-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        yield folder
    gone(folder)
    folder.rmdir()


def traces(place):
    """Processes that have to do with a browser's folder in `place`, and such folders."""
    name = f"{place}/{PREFIX}".encode()
    found = [str(folder) for folder in place.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name in (process / "cmdline").read_bytes() or name in (process / "environ").read_bytes():
                found.append(f"{process.name} {(process / 'cmdline').read_bytes()[:80]!r}")
    return found


def gone(place, seconds=15.0):
    """Wait until nothing is left."""
    deadline = time.monotonic() + seconds
    while traces(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert traces(place) == []


class Pair:
    """The two environments side by side; every step is compared."""

    def __init__(self, **settings):
        self.page = made(**settings)
        self.text = aem_envs.make_env("aem/WebShop-v0", **settings)
        self.actions, self.pages = 0, set()

    def reset(self, **how):
        self.info = self.same(self.page.reset(**how), self.text.reset(**how))[-1]

    def step(self, action):
        self.actions += 1
        record = self.same(self.page.step(action), self.text.step(action), action)
        self.info = record[-1]
        self.pages.add(self.text.session.page)
        return record

    def same(self, seen, wanted, action="reset"):
        assert seen[:-1] == wanted[:-1], f"after {action!r:.80}"
        for key in wanted[-1].keys() - {"engine"}:
            assert seen[-1][key] == wanted[-1][key], f"info[{key!r}] after {action!r:.80}"
        return wanted

    def close(self):
        self.page.close()
        self.text.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["text", "text_rich", "url"])
def test_every_step_equals_the_text_environments(mode):
    """Over 200 actions in mode text: walks, odd queries from every page, invalid actions, paging beyond the end."""
    pair = Pair(max_steps=1000, observation_mode=mode)
    try:
        pair.reset(seed=3)
        rng, odd = random.Random(3), iter(ODD_QUERIES + INVALID)
        for number in range({"text": 150, "text_rich": 40, "url": 16}[mode]):
            if number % 4 == 3 and (action := next(odd, "")) != "":
                pair.step(action)
            elif number % 12 == 0:
                pair.step("search[women shoes]" if number % 24 else "search[black]")
            else:
                listed = [
                    name
                    for name in pair.info["admissible_actions"]
                    if name not in ("click[buy now]", "search[<query>]")
                ]
                pair.step(rng.choice(listed or ["search[shirt]"]))
        if mode == "text":
            for action in odd:
                pair.step(action)
        pair.step("search[bed sheets]")
        for _ in range(6):
            pair.step("click[next >]")  # 50 results are five pages
        pair.step("click[< prev]")
        assert pair.step("click[back to search]")[-1]["action_valid"]
        for task in pair.text.task_ids("test", 6):
            pair.reset(options={"task_id": task})
            pair.step(f"search[<q> {pair.text.store.product(pair.text.store.find(pair.text.goal.asin)).query}]")
            pair.step(next(name for name in pair.info["admissible_actions"] if name.startswith("click[b0")))
            values = [value for _, group in pair.text.session.view().products[0].options for value in group[:2]]
            for thing in [*values, "Description", "< prev", "features", "< PREV", "reviews", "< prev", "Buy Now"]:
                record = pair.step(f"click[{thing}]")
            assert record[2], "bought"
        assert pair.pages == {"home", "results", "item", "description", "features", "reviews", "done"}
        assert pair.actions >= (200 if mode == "text" else 60)
    finally:
        pair.close()


@pytest.mark.slow
def test_the_originals_quirks_and_snapshots():
    pair = Pair(compat="original")
    try:
        pair.reset(seed=1)
        pair.step("search[shirt]")
        state = pair.text.get_state()
        assert pair.page.get_state() == state
        pair.step(pair.info["admissible_actions"][-1])
        *_, info = pair.step("click[buy now]")
        assert "Your score" in info["raw_obs"] and pair.page.get_state() == pair.text.get_state()
        bought = pair.text.get_state()
        for env in (pair.page, pair.text):
            env.set_state(state)
        pair.step("click[next >]")
        other = made(compat="original")
        other.set_state(bought)
        assert "Your score" in other._observe()[0] and other.get_state() == bought
        other.close()
        pair.step("click[< prev]")
    finally:
        pair.close()


ODD_TEXTS = [
    '<script>alert(1)</script> & "hat"',
    "two  spaces\tand a tab",
    "line\nbreak\r\nand cr\rx",
    "nbsp\u00a0x\u200bzero\u200dwidth\ufeff",
    "emoji 🎧𝄞 \u202eover",
    "  padded  ",
    "controls \u0001\u001b[31m \u0085 \u2028",
    "&amp; &lt; &#13; %20",
    "\u001c odd blanks \u00a0",
]


@pytest.fixture(scope="module")
def odd_goods(tmp_path_factory):
    """Official files of products whose every text is odd."""
    items, instructions = [], {}
    for number, text in enumerate(ODD_TEXTS):
        asin = f"B0ODD{number:05d}"
        values = [[text, "same", "buy now", "x/y"], ["same", "Description", ""]]
        items.append(
            {
                "name": text,
                "asin": asin,
                "category": "beauty",
                "query": "odd things",
                "images": [],
                "full_description": f"{text} \n\n {text}",
                "product_category": f"Beauty › {text}",
                "small_description": [text, "", f"{text} b"],
                "pricing": "$1.0$9.99",
                "customization_options": {
                    name: [{"value": value} for value in group] for name, group in zip((text, "second"), values)
                },
            }
        )
        instructions[asin] = {"attributes": ["soft"], "instruction": f"Find {text}", "instruction_attributes": ["soft"]}
    folder = tmp_path_factory.mktemp("odd")
    (folder / "items_shuffle_1000.json").write_text(json.dumps(items), "utf-8")
    (folder / "items_ins_v2_1000.json").write_text(json.dumps(instructions), "utf-8")
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("compat", [None, "original"])
def test_odd_texts_of_products_are_read_as_they_are(odd_goods, compat):
    settings = {"source": "official", "goals": "synthetic", "tagger": "lexicon", "data": odd_goods}
    pair = Pair(observation_mode="text_rich", compat=compat, max_steps=1000, **settings)
    try:
        pair.reset(seed=1)
        for number in range(len(ODD_TEXTS)):
            pair.step("search[<q> odd things]")
            pair.step(f"click[b0odd{number:05d}]")
            for action in pair.info["admissible_actions"][7:]:
                assert pair.step(action)[-1]["action_valid"] or compat  # the original reads some wrongly
            for thing in ("description", "< prev", "features", "< prev"):
                pair.step(f"click[{thing}]")
    finally:
        pair.close()


@pytest.mark.slow
def test_html_is_the_pages_source_and_pictures_are_its_pixels():
    env = made(observation_mode="html", render_mode="rgb_array", window=(390, 700))
    try:
        with pytest.raises(ResetNeededError):
            env.render()
        observation, _ = env.reset(seed=1)
        assert observation.startswith("<!DOCTYPE html>") and 'data-state="0"' in observation
        assert "<style" not in observation and "<svg" not in observation and "http" not in observation
        again, _ = env.reset(seed=1)
        assert again == observation, "no token, no port"
        home = env.render()
        assert home.shape == (700, 390, 3) and home.dtype == np.uint8 and len(np.unique(home)) > 20
        observation, *_, info = env.step("search[black shoes]")
        assert f">{info['admissible_actions'][-1][6:-1].upper()}</button>" in observation.replace("data-clicked", "")
        assert not np.array_equal(env.render(), home)
    finally:
        env.close()
    with pytest.raises(ResetNeededError):
        env.render()


def test_settings_are_checked():
    made().close()
    for settings in ({"window": (1, 1)}, {"window": "big"}, {"port": -1}, {"port": True}, {"page_timeout": 0}):
        with pytest.raises(BadOptionError):
            made(**settings)
    with pytest.raises(BrowserMissingError, match="apt-get install chromium"):
        aem_envs.make_env("aem/WebShopBrowser-v0", chromium="no-such-browser")
    with pytest.raises(BrowserMissingError, match="chromedriver=PATH"):
        aem_envs.make_env("aem/WebShopBrowser-v0", chromedriver="/no/such/driver")


def test_a_missing_package_is_named(monkeypatch):
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "selenium" else there(name, *rest)
    )
    with pytest.raises(BrowserMissingError, match=r"selenium not installed: pip install .aem-suite\[webshop\]"):
        aem_envs.make_env("aem/WebShopBrowser-v0")


def test_it_cannot_be_copied():
    env = made()
    for attempt in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied"):
            attempt(env)


@pytest.mark.slow
def test_a_port_in_use_and_a_program_that_is_no_driver(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = made(port=port)
        with pytest.raises(PortInUseError, match="choose another port"):
            env.reset(seed=1)
        env.close()
    env = made(port=port)
    env.reset(seed=1)
    env.close()
    for programs in ({"chromedriver": "/bin/true"}, {"chromium": "/bin/true"}):
        env = made(**programs)
        with pytest.raises(BrowserError, match=r"did not start|ended as it started"):
            env.reset(seed=1)
        env.close()
    gone(place)


@pytest.mark.slow
def test_environments_share_a_browser_and_leave_it_one_by_one(place):
    envs = [made() for _ in range(TABS + 1)]
    try:
        records = [env.reset(seed=number) for number, env in enumerate(envs)]
        assert len(list(place.iterdir())) == 2, "one more than a browser holds"
        threads = [threading.Thread(target=env.step, args=("search[shirt]",)) for env in envs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        envs[0].close()
        for env, (_, info) in list(zip(envs, records, strict=True))[1:]:
            assert info["raw_obs"].split(" [SEP] ")[2] in env.step("click[next >]")[0], "each its own instruction"
        del env, envs[1]
        gc.collect()
        assert envs[-1].step("click[< prev]")[4]["action_valid"]
        envs[0].reset(seed=1)
    finally:
        for env in envs:
            env.close()
            env.close()
    gone(place)
    assert not [thread for thread in threading.enumerate() if thread.name == "webshop-server"]


@pytest.mark.slow
def test_a_browser_that_dies_ends_the_episode_and_the_next_gets_another(place):
    env = made()
    try:
        for victim in ("chromium", "chromedriver"):
            env.reset(seed=1)
            before = env.step("search[shirt]")
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    line = (process / "cmdline").read_bytes()
                    if (
                        str(place).encode() in (process / "environ").read_bytes()
                        and f"/{victim}\0".encode() in line
                        and b"--type=" not in line
                    ):
                        os.kill(int(process.name), signal.SIGKILL)
            observation, reward, terminated, truncated, info = env.step("click[next >]")
            assert (observation, reward, terminated, truncated) == (before[0], 0.0, False, True), victim
            assert info["truncation_reason"].startswith("infra:BrowserError: ") and info["action_valid"] is False
            with pytest.raises(ResetNeededError):
                env.step("click[next >]")
        env.reset(seed=1)
        (folder,) = place.iterdir()
        guard = env._visit.tab._browser._guard
        guard.kill()  # between two episodes
        guard.wait()
        env.reset(seed=1)
        env.step("search[shirt]")
        (other,) = place.iterdir()
        assert other != folder, "the killed guard's work was done for it"
    finally:
        env.close()
    gone(place)


@pytest.mark.slow
def test_a_page_that_does_not_come_is_given_up():
    env = made(page_timeout=1.0)
    try:
        env.reset(seed=1)
        env._visit._desk.lock.acquire()  # the shop's server answers no more
        start = time.monotonic()
        *_, truncated, info = env.step("search[shirt]")
        assert truncated and "did not come within 1 s" in info["truncation_reason"] and time.monotonic() - start < 15
        assert env.reset(seed=1)[1]["steps"] == 0
    finally:
        env.close()


ENDS = {
    "close": "env.close()",
    "garbage": "del env; import gc; gc.collect()",
    "exit": "pass",
    "exception": "raise RuntimeError('crash')",
    "hard exit": "import os; os._exit(3)",
    "interrupt": "wait()",
    "terminate": "wait()",
    "kill": "wait()",
    "fork": "import os\nif os.fork() == 0: time.sleep(20); os._exit(0)\nwait()",
}
SIGNALS = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL, "fork": signal.SIGKILL}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_behind(end, tmp_path, place):
    made().close()
    program = """
        import time, aem_envs
        def wait():
            print("ready", flush=True)
            while True:
                env.step("search[shirt]")
        env = aem_envs.make_env("aem/WebShopBrowser-v0", max_steps=10**9)
        env.reset(seed=1)
        print("open", flush=True)
    """
    program = textwrap.dedent(program) + ENDS[end] + "\nprint('ended', flush=True)\n"
    if end in ("close", "garbage"):
        program += "time.sleep(30)\n"  # nothing may be left while the process goes on
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout.readline() == "open\n", process.stderr.read()
        if end in SIGNALS:
            assert process.stdout.readline() == "ready\n"
            assert traces(place)
            time.sleep(0.3)
            process.send_signal(SIGNALS[end])
        if end in ("close", "garbage"):
            assert process.stdout.readline() == "ended\n"
        elif end != "fork":
            process.wait(30)
        gone(place)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
