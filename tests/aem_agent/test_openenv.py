"""Our environments served to the real OpenEnv's client. The package conflicts with what `make test` pins, so this runs
in an environment of its own: `make test-openenv`.
"""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aem_envs

pytest.importorskip("openenv", reason="openenv is not installed here: `make test-openenv` runs this")

import httpx
import uvicorn
from openenv.core import GenericEnvClient

from aem_agent.adapters.openenv import OpenEnvEnvironment, TaskIndexError, TextAction, app

ROOT = Path(__file__).resolve().parents[2]
TASK = "rooms3-start2-red"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Served:
    """A server in a thread of this process."""

    def __init__(self, env_id: str, **settings: Any) -> None:
        port = free_port()
        config = uvicorn.Config(app(env_id, **settings), host="127.0.0.1", port=port, log_level="warning")
        self.url = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.02)

    def client(self) -> Any:
        return GenericEnvClient(base_url=self.url).sync()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def toy() -> Iterator[Served]:
    served = Served("aem/Toy-v0", max_steps=3)
    yield served
    served.stop()


def test_an_episode_over_the_wire(toy: Served) -> None:
    with toy.client() as client:
        start = client.reset(task_id=TASK)
        assert "open the red chest" in start.observation["text"] and not start.done and start.reward is None
        assert start.observation["admissible_actions"] == ["go east", "go west"]
        odd = client.step({"action": "é𝄞 fly"})
        assert (odd.reward, odd.done, odd.observation["action_valid"]) == (0.0, False, False)
        client.step({"action": "go east"})
        last = client.step({"action": "open red chest"})
        assert (last.reward, last.done, last.observation["won"], last.observation["terminated"]) == (
            1.0,
            True,
            True,
            True,
        )
        state = client.state()
        assert (state["step_count"], state["return_"], state["task_id"]) == (3, 1.0, TASK)
        with pytest.raises(RuntimeError, match="call reset"):
            client.step({"action": "look"})


def test_a_limit_is_told_from_an_end(toy: Served) -> None:
    with toy.client() as client:
        client.reset(task_id=TASK)
        for _ in range(3):
            last = client.step({"action": "wait"})
        seen = last.observation
        assert last.done and not seen["terminated"] and seen["truncated"] and seen["truncation_reason"] == "max_steps"


def test_clients_have_environments_of_their_own(toy: Served) -> None:
    with toy.client() as one, toy.client() as two:
        one.reset(task_id=TASK)
        two.reset(task_id="rooms4-start1-blue")
        one.step({"action": "go east"})
        assert two.step({"action": "go east"}).observation["text"].startswith("You are in room 2 of 4")
        assert one.state()["task_id"] == TASK and two.state()["task_id"] == "rooms4-start1-blue"


def test_tasks_are_listed_and_begun_by_number(toy: Served) -> None:
    wanted = list(aem_envs.make_env("aem/Toy-v0").task_ids("test"))
    (name,) = httpx.get(f"{toy.url}/list_environments").json() or ["?"]
    ask = {"split": "test"}
    assert httpx.post(f"{toy.url}/{name}/num_tasks", json=ask).json()["num_tasks"] == len(wanted)
    with toy.client() as client:
        assert client.reset(split="test", index=3).observation["task_id"] == wanted[3]
        with pytest.raises(RuntimeError, match="no task number"):
            client.reset(split="test", index=len(wanted))
        with pytest.raises(RuntimeError, match="unknown task_id"):
            client.reset(task_id="nowhere")
        with pytest.raises(RuntimeError, match="unknown reset option 'level'"):
            client.reset(level=3)


def test_ranges_are_those_of_slices() -> None:
    env = OpenEnvEnvironment("aem/Toy-v0")
    ids = list(aem_envs.make_env("aem/Toy-v0").task_ids("train"))
    for start, stop in ((None, None), (2, 5), (None, 3), (-2, None), (1, -1), (5, 2)):
        assert [task["id"] for task in env.get_task_range("train", start, stop)] == ids[start:stop]
    assert env.get_task("train", 1) == {"id": ids[1], "index": 1} and env.num_tasks("train") == len(ids)
    for number in (-1, len(ids)):
        with pytest.raises(TaskIndexError):
            env.get_task("train", number)


def test_what_broke_has_no_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    env = OpenEnvEnvironment("aem/Toy-v0")
    env.reset(task_id=TASK)
    text, _, terminated, _, info = env._env.step("go east")
    broken = (text, 0.0, terminated, True, {**info, "truncation_reason": "infra:gone"})
    monkeypatch.setattr(env._env, "step", lambda action: broken)
    seen = env.step(TextAction(action="go east"))
    assert seen.done and seen.truncated and seen.reward is None and seen.truncation_reason == "infra:gone"


@pytest.mark.parametrize("env_id", ["aem/ALFWorld-v0", "aem/WebShop-v0"])
def test_experts_win_over_the_wire(env_id: str) -> None:
    """The expert plays beside the server, on the same task; both see the same."""
    served = Served(env_id)
    env = aem_envs.make_env(env_id)
    expert = aem_envs.make_expert(env_id, "expert")
    try:
        with served.client() as client:
            task = next(iter(env.task_ids("train", 1)))
            text, info = env.reset(seed=1, options={"task_id": task})
            seen = client.reset(task_id=task, seed=1)
            expert.reset(env, text, info)
            done = False
            while not done:
                assert seen.observation["text"] == text
                action = expert.act(text, info)
                text, reward, terminated, truncated, info = env.step(action)
                done = terminated or truncated
                seen = client.step({"action": action})
                assert (seen.reward, seen.done) == (reward, done)
            assert seen.observation["won"]
    finally:
        served.stop()


def test_the_page_s_listings_run(tmp_path: Path) -> None:
    listings = dict(
        re.findall(r"```python file=(\w+_openenv.py)\n(.*?)```", (ROOT / "docs/adapters.md").read_text(), re.S)
    )
    port = str(free_port())
    for name, code in listings.items():
        assert "8000" in code
        (tmp_path / name).write_text(code.replace("8000", port))
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, tmp_path / "serve_openenv.py"], env=settings, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        assert any("running on" in line for line in server.stderr)
        played = subprocess.run(
            [sys.executable, tmp_path / "play_openenv.py"], env=settings, capture_output=True, text=True, timeout=120
        )
        assert played.returncode == 0, played.stderr[-2000:]
        assert played.stdout.split()[-1] in ("max_steps", "None")
    finally:
        server.terminate()
        server.communicate()
