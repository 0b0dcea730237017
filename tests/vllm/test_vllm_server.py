"""The real vLLM server that we start: ids and log-probs, weights replaced over HTTP, its key, its end, and `aem-eval`
against it, by chat, by texts and by token ids. Over 300 lines, since all of it shares one server, which takes long to
start.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch
from vllm_help import answers, moved, requests, run

from aem_agent.model.interface import LanguageModel, load_model
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.records import read_episodes
from aem_agent.types import EngineError, GenerateRequest, LocalEngine, Response, Sampling, WeightParityError

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
TEXTS = [
    "go to desk 1 take mug 2 you see a cabinet 3",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ 0123456789 .,:;?!-'[]<>/",
]
SHAPE = PresetConfig(
    tokenizer="byte-bpe",
    vocab_size=512,
    hidden_size=64,
    layers=2,
    heads=2,
    kv_heads=2,
    head_dim=32,
    ffn=128,
    tied=True,
    max_positions=4096,
    init_std=0.2,
)
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tied, since tied heads are what reloads forget; with a chat template and room for an environment's prompts."""
    made = make_preset(SHAPE, tmp_path_factory.mktemp("served") / "m", 0, TEXTS)
    (made / "chat_template.jinja").write_text(TEMPLATE)
    return made


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    from aem_agent.engines.vllm_server_engine import VllmServerEngine

    made = VllmServerEngine.load(folder, max_batch=16, kv_cache_gib=0.5)
    yield made
    run(made.aclose())


def scored(model: LanguageModel, request: GenerateRequest, ids: tuple[int, ...]) -> list[float]:
    """Log-probs of ids after the request's prompt, from a full forward."""
    prompt, temperature = request.prompt_token_ids, request.sampling.temperature or 1.0
    tokens = torch.tensor([*prompt, *ids])
    with torch.no_grad():
        logits = model.head(model.hidden(tokens, torch.tensor([0, len(tokens)])))
    at = (logits.float() / temperature).log_softmax(-1)[len(prompt) - 1 : -1]
    return [float(row[token]) for row, token in zip(at, ids)]


def worst(model: LanguageModel, asked: list[GenerateRequest], said: list[Response]) -> float:
    differences = []
    for request, response in zip(asked, said):
        assert response.logprobs is not None
        want = scored(model, request, response.token_ids)
        differences += [abs(a - b) for a, b in zip(want, response.logprobs, strict=True)]
    return max(differences)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 1.5])
def test_logprobs_equal_a_full_forward(engine: Any, temperature: float) -> None:
    assert isinstance(engine, LocalEngine) and engine.max_positions == 4096
    asked = requests(8, temperature=temperature)
    model = load_model(engine.server.settings.folder)
    run(engine.load_weights(model))
    said = run(answers(engine, asked))
    assert worst(model, asked, said) < 1e-4
    again = run(answers(engine, asked))
    assert [r.token_ids for r in said] == [r.token_ids for r in again], "seeds decide"
    assert all(response.text == engine.tokenizer.decode(response.token_ids) for response in said)


def test_stop_strings_are_kept_with_their_tokens(engine: Any) -> None:
    asked = requests(12, max_new_tokens=40)
    said = list(zip(asked, run(answers(engine, asked))))
    # whole characters after the first few: half of one decodes to another than the server makes of it
    request, free, stop = next((r, f, m[0]) for r, f in said if (m := re.search(r"(?<=...)[!-~]{2}", f.text, re.S)))
    cut = run(engine.generate(replace(request, sampling=replace(request.sampling, stop=(stop,)))))
    assert stop in cut.text and stop not in engine.tokenizer.decode(cut.token_ids[:-1])
    assert cut.finish_reason == "stop" and cut.token_ids == free.token_ids[: len(cut.token_ids)]
    assert cut.logprobs == pytest.approx(free.logprobs[: len(cut.token_ids)], abs=1e-5)
    token = free.token_ids[2]
    ended = run(engine.generate(replace(request, sampling=replace(request.sampling, stop_token_ids=(token,)))))
    assert ended.token_ids == free.token_ids[: free.token_ids.index(token) + 1] and ended.finish_reason == "stop"


def test_ids_of_ten_turns_are_spliced_as_they_were_sampled(engine: Any) -> None:
    """Each prompt of `plain-full` extends the one before and its response, id for id, though the random responses
    would hardly encode to the ids they were sampled as; log-probs equal a forward over the whole."""
    import gymnasium as gym

    import aem_envs  # noqa: F401  # registers the environments
    from aem_agent.model_policies import ModelPolicy
    from aem_agent.registry import parsers, prompt_specs
    from aem_agent.rollout import RolloutManager
    from aem_agent.types import TaskRef

    model = load_model(engine.server.settings.folder)
    run(engine.load_weights(model))
    draw = Sampling(max_new_tokens=12, temperature=0.8)
    policy = ModelPolicy(prompt_specs.get("plain-full")(), engine, engine.tokenizer, parsers.get("line")(), draw, 4096)
    manager = RolloutManager(lambda: gym.make("aem/Toy-v0", max_steps=10), policy, retries=0)
    collected = run(manager.collect([TaskRef("aem/Toy-v0", "rooms4-start1-red", "train")], 2, seed=1))
    (group,) = collected.groups
    assert len(group.episodes) == 2
    other = 0
    for episode in group.episodes:
        assert len(episode.turns) == 10
        for turn, following in zip(episode.turns, episode.turns[1:]):
            so_far = (*turn.prompt_token_ids, *turn.response.token_ids)
            assert following.prompt_token_ids[: len(so_far)] == so_far
            other += tuple(engine.tokenizer.encode(turn.response.text)) != turn.response.token_ids
        asked = [GenerateRequest(turn.prompt_token_ids, draw, 0) for turn in episode.turns]
        assert worst(model, asked, [turn.response for turn in episode.turns]) < 1e-4
    assert other > 5, "prompts that would encode differently"


def test_weights_are_replaced_and_compared(engine: Any, folder: Path) -> None:
    before = engine.version
    for state in (moved(folder, 1), moved(folder, 2), moved(folder, 2).state_dict()):
        run(engine.load_weights(state))
    assert engine.version == before + 3
    asked = requests(8, temperature=0.7)
    said = run(answers(engine, asked))
    assert worst(moved(folder, 2), asked, said) < 1e-4
    assert {response.policy_versions for response in said} == {((0, before + 3),)}
    assert worst(moved(folder, 1), asked, said) > 1e-2, "the check sees other weights"


def test_weights_that_did_not_arrive_are_noticed(engine: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers 200 all along."""
    from aem_agent.engines import vllm_server_engine as module

    with monkeypatch.context() as patch:
        patch.setattr(module.transfer, "Sender", lambda *args: lambda model: None)
        with pytest.raises(WeightParityError, match="differ by"):
            run(engine.load_weights(moved(folder, 3)))
    with pytest.raises(EngineError, match="no request can be answered"):
        run(answers(engine, requests(1)))
    post = engine._control.post

    async def without_reset(path: str, payload: Any, **limits: Any) -> Any:
        return {"success": True} if path == "/reset_prefix_cache" else await post(path, payload, **limits)

    with monkeypatch.context() as patch:
        patch.setattr(engine._control, "post", without_reset)
        with pytest.raises(WeightParityError, match="keys and values of old weights"):
            run(engine.load_weights(moved(folder, 4)))
    run(engine.load_weights(moved(folder, 4)))
    asked = requests(4)
    assert worst(moved(folder, 4), asked, run(answers(engine, asked))) < 1e-4


def test_responses_go_on_under_new_weights(engine: Any, folder: Path) -> None:
    """`keep`: what was drawn stays, each part with the log-probs of the weights that drew it."""
    old, new = moved(folder, 5), moved(folder, 6)
    # an end token would end most responses before the weights come
    draw = Sampling(max_new_tokens=900)
    asked = [GenerateRequest((7, 8, 9 + i), draw, i) for i in range(12)]

    async def main(pause: float) -> tuple[list[Response], int]:
        await engine.load_weights(old)
        first = engine.version
        drawing = [asyncio.ensure_future(engine.generate(request)) for request in asked]
        await asyncio.sleep(pause)
        await engine.load_weights(new, running="keep")
        late = await engine.generate(asked[0])
        return [*await asyncio.gather(*drawing), late], first

    for pause in (0.1, 0.2, 0.4, 0.8, 0.05):  # on a busy machine none may have begun, on a fast one all may be done
        said, first = run(main(pause))
        assert said[-1].policy_versions == ((0, first + 1),)
        if any(len(r.policy_versions) == 2 for r in said):
            break
    else:
        raise AssertionError("no response was under way")
    for request, response in zip([*asked, asked[0]], said):
        starts = [start for start, _ in response.policy_versions]
        assert starts[0] == 0 and starts == sorted(starts) and response.logprobs is not None
        for (start, version), end in zip(response.policy_versions, [*starts[1:], len(response.token_ids)]):
            want = scored(old if version == first else new, request, response.token_ids)[start:end]
            assert max(abs(a - b) for a, b in zip(want, response.logprobs[start:end], strict=True)) < 1e-4


def test_waiting_responses_end_under_the_old_weights(engine: Any, folder: Path) -> None:
    async def main() -> tuple[list[Response], int]:
        first = engine.version
        drawing = [asyncio.ensure_future(engine.generate(request)) for request in requests(6, max_new_tokens=60)]
        await asyncio.sleep(0.05)
        await engine.load_weights(moved(folder, 7))
        return list(await asyncio.gather(*drawing)), first

    said, first = run(main())
    assert {response.policy_versions for response in said} == {((0, first),)} and engine.version == first + 1


def test_development_routes_are_there_and_demand_the_key(engine: Any) -> None:
    """vLLM leaves them open: `vllm_key_guard.py` is what guards them."""
    root, header = engine.server.root, engine.server.key.header()
    for method, path in (
        ("POST", "/collective_rpc"),
        ("POST", "/pause"),
        ("POST", "/update_weights"),
        ("GET", "/server_info"),
        ("GET", "/openapi.json"),
        ("POST", "/tokenize"),
        ("OPTIONS", "/collective_rpc"),
        ("GET", "/v1/models"),
    ):
        assert httpx.request(method, root + path, timeout=60).status_code == 401, path
        assert httpx.request(method, root + path, headers=header, timeout=60).status_code not in (401, 404), path
    httpx.post(f"{root}/resume", headers=header, timeout=60)


def test_it_listens_on_loopback_only(engine: Any) -> None:
    sockets = {os.readlink(file) for pid in below(engine.server.pid) for file in Path(f"/proc/{pid}/fd").iterdir()}
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            (
                _,
                local,
                _,
                state,
                *_,
            ) = (fields := line.split())
            if state == "0A" and f"socket:[{fields[9]}]" in sockets:
                listening.append(local.partition(":")[0])
    assert listening and set(listening) == {"0100007F"}


def below(root: int) -> list[int]:
    """Processes below `root`, without it."""
    children = [c for path in Path(f"/proc/{root}/task").glob("*/children") for c in path.read_text().split()]
    return [pid for child in map(int, children) for pid in (child, *below(child))]


def evaluated(*arguments: str) -> list[Any]:
    """Turns of a run of `aem-eval`."""
    from aem_agent.cli import main

    with pytest.raises(SystemExit) as stop:
        main(
            [
                "run",
                "aem/ALFWorld-v0",
                *arguments,
                "-n",
                "2",
                "--max-steps",
                "3",
                "--max-new-tokens",
                "16",
                "--out",
                "a",
            ]
        )
    assert stop.value.code == 0
    turns = [turn for episode in read_episodes(Path("a/episodes.jsonl")) for turn in episode.turns]
    assert len(turns) == 6
    return turns


@pytest.mark.parametrize("kind", ["chat", "completions", "ids"])
def test_aem_eval_against_the_server(
    engine: Any, folder: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = engine.server.key.header()["Authorization"].removeprefix("Bearer ")
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    more = {"chat": [], "completions": ["--engine", "completions"], "ids": ["--tokenizer", str(folder)]}[kind]
    turns = evaluated("-m", "openai:model", "--base-url", engine.server.url, "--prices", "1,2", *more)
    if kind == "ids":
        assert all(turn.prompt_token_ids and turn.response.token_ids for turn in turns)
    else:
        assert all(turn.response.usage[0] > 50 for turn in turns)
    summary = json.loads(Path("a/summary.json").read_text())
    cost = (summary["prompt_tokens"] + 2 * summary["response_tokens"]) / 1e6
    assert summary["response_tokens"] > 0 and summary["cost"] == pytest.approx(cost)
    assert not any(secret.encode() in path.read_bytes() for path in Path("a").iterdir())


def test_aem_eval_starts_a_server_of_its_own(
    vllm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(below(os.getpid()))
    name = "aem_agent.engines.vllm_server_engine:VllmServerEngine"
    turns = evaluated("-m", str(vllm_folder), "--engine", name, "-c", "2")
    assert all(turn.response.logprobs for turn in turns)
    assert set(below(os.getpid())) <= before


CHILD = """
import asyncio, os, re, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_vllm_server import below
from vllm_help import moved
from aem_agent.engines.vllm_server_engine import VllmServerEngine
from aem_agent.types import GenerateRequest, Sampling
if __name__ == "__main__":
    engine = VllmServerEngine.load(sys.argv[1], kv_cache_gib=0.5)
    async def main():
        await engine.load_weights(moved(Path(sys.argv[1]), 1))  # an untied head: compared, or it raises
        asyncio.ensure_future(engine.generate(GenerateRequest((1, 2), Sampling(max_new_tokens=400), 0)))
        await asyncio.sleep(0.05)
        pids = below(engine.server.pid)
        maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
        print(engine.server._process.folder, engine.server.pid, *pids, flush=True)
        print(*set(re.findall("/dev/shm/psm_\\w+", maps)), flush=True)
        os.kill(os.getpid(), 9)
    asyncio.run(main())
"""


def test_kill_9_in_the_middle_of_a_request_leaves_no_process_and_no_memory(vllm_folder: Path) -> None:
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(here).parents[1]), here])}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(vllm_folder), here],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout
    first, second = done.stdout.splitlines()
    (room, *pids), shared = first.split(), second.split()
    assert len(pids) >= 4, "guard, server, engine, worker"
    assert shared, "vLLM's processes share memory"
    run(gone([room, *shared, *(f"/proc/{pid}" for pid in pids)]))


async def gone(paths: list[str]) -> None:
    while any(map(os.path.exists, paths)):
        await asyncio.sleep(0.1)


def test_nothing_outlives_a_guard_that_was_killed(vllm_folder: Path) -> None:
    """Without updates too: vLLM's engine process does not watch its parents by itself."""
    from aem_agent.engines.vllm_server_engine import VllmServerEngine

    engine = VllmServerEngine.load(vllm_folder, kv_cache_gib=0.25, max_batch=2, updates=False)
    pids, room = below(engine.server.pid), str(engine.server._process.folder)
    assert len(pids) >= 2, "server, engine"
    os.kill(engine.server.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=60)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive), "no parent of ours reaps them"
    with pytest.raises(EngineError, match="ended"):
        run(engine.generate(requests(1)[0]))
    run(engine.aclose())
    assert not os.path.exists(room)
