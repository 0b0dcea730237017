"""Browsers that are shared, that die, hang or lose their owner: episodes end with a reason, nothing stays behind."""

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from browsers import gone, made, place, traces

from aem_envs.core import ResetNeededError
from aem_envs.webshop.browser.process import TABS, BrowserError
from aem_envs.webshop.server import PortInUseError

__all__ = ["place"]  # a fixture of every test here

ROOT = Path(__file__).resolve().parents[2]


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
