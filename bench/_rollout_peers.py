"""One contender of `bench/rollout.py` that is another project's, run in that project's own environment.

    python bench/_rollout_peers.py NAME EPISODES STEPS

All play the same environment, the same number of steps, and a policy that answers at once. What each keeps is said
beside its function; none writes to a disk.
"""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from _rounds import refuse, serve
from _trivial import ACTION, TEXT, Trivial

Run = Callable[[], None]


def gem(name: str, episodes: int, steps: int) -> tuple[Run, str]:
    """GEM's vector environments, which step all environments together: in one thread, or in one thread each. They keep
    the newest observation only."""
    from gem.core import Env
    from gem.vector.async_vector_env import AsyncVectorEnv
    from gem.vector.sync_vector_env import SyncVectorEnv
    from gem.vector.vector_env import AutoresetMode

    class GemEnv(Trivial, Env):  # type: ignore[misc]
        pass

    kind = AsyncVectorEnv if name == "gem-threads" else SyncVectorEnv
    makers = [partial(GemEnv, steps)] * episodes
    envs = kind(["trivial"] * episodes, makers, autoreset_mode=AutoresetMode.NEXT_STEP)
    actions = [ACTION] * episodes

    def run() -> None:
        envs.reset()
        for _ in range(steps):
            terminated = envs.step(actions)[2]
        assert all(terminated)

    return run, f"gem-llm {version('gem-llm')}"


def verifiers(episodes: int, steps: int) -> tuple[Run, str]:
    """verifiers' `MultiTurnEnv`, all rollouts in this process with a client that answers at once. Each keeps its
    messages and responses in memory; scoring and saving are left out. Environments are made once and lent, as the
    others' are. Versions from 0.4 on play over HTTP only."""
    import verifiers.legacy as vf
    from datasets import Dataset
    from verifiers.legacy.clients import Client
    from verifiers.legacy.types import Response, ResponseMessage, Usage

    usage = Usage(prompt_tokens=1, reasoning_tokens=0, completion_tokens=1, total_tokens=2)

    class Answering(Client):  # type: ignore[type-arg]
        def setup_client(self, config: Any) -> Any: ...
        async def to_native_tool(self, tool: Any) -> Any: ...
        async def to_native_prompt(self, messages: Any) -> Any:
            return messages, {}

        async def get_native_response(self, *args: Any, **kwargs: Any) -> Any:
            return ACTION

        async def raise_from_native_response(self, response: Any) -> None: ...
        async def from_native_response(self, response: Any) -> Response:
            message = ResponseMessage(content=response, finish_reason="stop", is_truncated=False)
            return Response(id="", created=0, model="", usage=usage, message=message)

        async def close(self) -> None: ...

    class Playing(vf.MultiTurnEnv):
        async def setup_state(self, state: Any) -> Any:
            state["env"] = idle.pop()
            state["env"].reset()
            return state

        async def env_response(self, messages: Any, state: Any, **kwargs: Any) -> Any:
            text, _, done, _, _ = state["env"].step(messages[-1].content)
            said = [vf.UserMessage(content=text)]
            if done:
                state["final_env_response"] = said
            return said

    envs = [Trivial(steps) for _ in range(episodes)]
    idle: list[Trivial] = []
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": TEXT}], "answer": ""}])
    env = Playing(dataset=data)
    client, row = Answering(None), {"prompt": [{"role": "user", "content": TEXT}], "example_id": 0}

    async def rollouts() -> None:
        idle[:] = envs
        states = await asyncio.gather(*(env.rollout(row, client, "dummy") for _ in range(episodes)))
        assert all(state["env"].n == steps for state in states)

    return lambda: asyncio.run(rollouts()), f"verifiers {version('verifiers')}"


def openenv_types() -> tuple[Any, Any]:
    """OpenEnv's action and observation of the trivial environment."""
    from openenv.core.env_server.types import Action, Observation

    Act = type("Act", (Action,), {"__annotations__": {"text": str}})
    Seen = type("Seen", (Observation,), {"__annotations__": {"text": str}})
    return Act, Seen


def openenv_server(port: int, episodes: int, steps: int, threads: bool) -> None:
    """Serve the environment over WebSockets; ends with its stdin. `threads`: as an environment with a plain `step`,
    which the server calls in a thread of its session; otherwise as one with `step_async`."""
    import uvicorn
    from openenv.core.env_server.http_server import create_fastapi_app
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.types import State

    act, seen = openenv_types()

    class Served(Environment):  # type: ignore[type-arg]
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self.env = Trivial(steps)

        def reset(self, seed: Any = None, episode_id: Any = None, **kwargs: Any) -> Any:
            return seen(text=self.env.reset()[0])

        def step(self, action: Any, timeout_s: Any = None, **kwargs: Any) -> Any:
            text, reward, done, _, info = self.env.step(action.text)
            return seen(text=text, reward=reward, done=done, metadata=info)

        @property
        def state(self) -> Any:
            return State()

    class ServedAtOnce(Served):
        async def reset_async(self, seed: Any = None, episode_id: Any = None, **kwargs: Any) -> Any:
            return self.reset()

        async def step_async(self, action: Any, timeout_s: Any = None, **kwargs: Any) -> Any:
            return self.step(action)

    app = create_fastapi_app(Served if threads else ServedAtOnce, act, seen, max_concurrent_envs=episodes)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws_ping_interval=None))

    def ended() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=ended, daemon=True).start()
    server.run()


def openenv(name: str, episodes: int, steps: int) -> tuple[Run, str, Run]:
    """OpenEnv: a server process on loopback, one WebSocket session per episode. Neither side keeps anything."""
    from openenv.core.client_types import StepResult
    from openenv.core.env_client import EnvClient

    act, seen = openenv_types()

    class Playing(EnvClient):  # type: ignore[type-arg]
        def _step_payload(self, action: Any) -> Any:
            return {"text": action.text}

        def _parse_result(self, payload: Any) -> Any:
            return StepResult(seen(**payload["observation"]), payload.get("reward"), payload.get("done", False))

        def _parse_state(self, payload: Any) -> Any:
            return payload

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, "openenv-server", str(episodes), str(steps), str(port), name]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2)
    runner = asyncio.Runner()
    _wait_for(port, server)
    clients = [Playing(base_url=f"http://127.0.0.1:{port}") for _ in range(episodes)]

    async def play(client: Any) -> None:
        await client.reset()
        for _ in range(steps):
            result = await client.step(act(text=ACTION))
        assert result.done

    async def rollouts() -> None:
        await asyncio.gather(*map(play, clients))

    async def closed() -> None:
        await asyncio.gather(*(client.close() for client in clients))

    def close() -> None:
        runner.run(closed())
        runner.close()
        assert server.stdin is not None
        server.stdin.close()
        server.wait(10)

    return lambda: runner.run(rollouts()), f"openenv {version('openenv')}", close


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(f"OpenEnv's server ended with status {server.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    server.kill()
    raise RuntimeError("OpenEnv's server did not come up within a minute")


def main(name: str, episodes: int, steps: int, *more: str) -> None:
    """Serve the contender of that name."""
    close = None
    try:
        if name == "openenv-server":
            openenv_server(int(more[0]), episodes, steps, threads=more[1] == "openenv-threads")
            return
        if name.startswith("openenv"):
            run, about, close = openenv(name, episodes, steps)
        else:
            run, about = verifiers(episodes, steps) if name == "verifiers" else gem(name, episodes, steps)
    except ImportError as error:
        refuse(f"not installed: {error}")
        return
    serve(run, about, close)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
