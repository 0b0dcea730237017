"""The in-process vLLM engine: beyond the contract, what vLLM could get wrong or leave behind."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tito import forward_logprobs
from vllm_help import answers, load, requests, run

from aem_agent.model.interface import load_model
from aem_agent.types import ContextOverflowError, EngineError, GenerateRequest, Sampling

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.mark.parametrize("temperature", [0.0, 0.4, 1.0, 1.7])
def test_logprobs_are_of_the_sampling_temperature(vllm_engine: Any, vllm_folder: Path, temperature: float) -> None:
    model = load_model(vllm_folder)
    run(vllm_engine.load_weights(model))
    asked = requests(temperature=temperature)
    mixed = [*asked, *requests(temperature=0.0 if temperature else 1.0)]  # rows of a batch do not touch each other
    for request, response in zip(asked, run(answers(vllm_engine, mixed))):
        want = forward_logprobs(model, request.prompt_token_ids, response.token_ids, temperature)
        assert response.logprobs == pytest.approx(want, abs=1e-4)


def test_greedy_is_the_likeliest_token(vllm_engine: Any, vllm_folder: Path) -> None:
    from aem_agent.engines.torch_engine import TorchEngine

    torch_engine = TorchEngine.load(vllm_folder)
    run(vllm_engine.load_weights(torch_engine.model))
    asked = requests(temperature=0.0)
    want, got = run(answers(torch_engine, asked)), run(answers(vllm_engine, asked))
    assert [r.token_ids for r in got] == [r.token_ids for r in want]
    assert [r.text for r in got] == [r.text for r in want]
    assert [r.finish_reason for r in got] == [r.finish_reason for r in want]


def test_a_stop_string_stays_in_the_text_and_its_tokens_in_the_ids(vllm_engine: Any) -> None:
    for free in run(answers(vllm_engine, requests(temperature=0.0, max_new_tokens=24))):
        printable = [c for c in free.text[3:] if c.isascii() and c.isprintable()]
        if len(printable) > 3:
            break
    stop = printable[0]
    asked = requests(temperature=0.0, max_new_tokens=24, stop=(stop, "never said"))
    cut = 0
    for response in run(answers(vllm_engine, asked)):
        count = len(response.token_ids)
        assert response.logprobs is not None and len(response.logprobs) == count
        assert vllm_engine.tokenizer.decode(response.token_ids) == response.text
        if stop in response.text:
            cut += 1
            assert response.finish_reason == "stop"
            assert stop not in vllm_engine.tokenizer.decode(response.token_ids[:-1])
        else:
            assert response.finish_reason == "length" or response.token_ids[-1] == vllm_engine.tokenizer.eos_token_id
    assert cut


def test_seeds_decide_and_repeat(vllm_engine: Any) -> None:
    (request,) = requests(1, max_new_tokens=20)
    asked = [request, replace(request, seed=2**64 + 5), replace(request, seed=1), request]
    first, second = run(answers(vllm_engine, asked)), run(answers(vllm_engine, asked[::-1]))[::-1]
    assert [r.token_ids for r in first] == [r.token_ids for r in second]
    assert first[0] == first[3] and len({r.token_ids for r in first}) == 3


def test_what_cannot_be_asked_is_refused(vllm_engine: Any) -> None:
    for prompt, sampling, error, word in (
        ((7,) * 500, Sampling(max_new_tokens=13), ContextOverflowError, "shorten"),
        ((), Sampling(), EngineError, "needs a prompt"),
        ((512,), Sampling(), EngineError, "vocabulary"),
        ((-1,), Sampling(), EngineError, "vocabulary"),
        ((7,), Sampling(temperature=0.001), EngineError, "greedily"),
    ):
        with pytest.raises(error, match=word):
            run(vllm_engine.generate(GenerateRequest(prompt, sampling, 0)))
    (full,) = run(answers(vllm_engine, [GenerateRequest((7,) * 500, Sampling(max_new_tokens=12), 0)]))
    assert full.token_ids


def test_a_cancelled_request_is_dropped_by_vllm(vllm_engine: Any) -> None:
    async def main() -> None:
        asked = [replace(r, sampling=replace(r.sampling, max_new_tokens=450)) for r in requests(6)]
        tasks = [asyncio.ensure_future(vllm_engine.generate(r)) for r in asked]
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        assert all(isinstance(x, asyncio.CancelledError) for x in await asyncio.gather(*tasks, return_exceptions=True))
        while vllm_engine.client.llm.output_processor.request_states:
            await asyncio.sleep(0.01)

    run(main())
    assert all(r.token_ids for r in run(answers(vllm_engine, requests())))


ENGINE = """
import asyncio, sys, time
from pathlib import Path
from vllm_help import load
from aem_agent.types import EngineError, GenerateRequest, Sampling

def main():
    engine = load(Path(sys.argv[1]), max_batch=4)
    print("up", flush=True)
    if sys.argv[2] == "sleep":
        time.sleep(600)
    for line in sys.stdin:
        break
    async def ask():
        return await engine.generate(GenerateRequest((7, 8), Sampling(max_new_tokens=400), 0))
    print(asyncio.run(ask()).finish_reason, flush=True)
    asyncio.run(engine.aclose())
    print("closed", flush=True)

if __name__ == "__main__":
    main()
"""


@contextmanager
def program(tmp_path: Path, folder: Path, what: str, temporary: str | None = None) -> "Iterator[subprocess.Popen[str]]":
    """A program that has started an engine; killed at the end if it still runs."""
    (tmp_path / "program.py").write_text(ENGINE)
    command = [sys.executable, str(tmp_path / "program.py"), str(folder), what]
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parent}"}
    environment |= {} if temporary is None else {"TMPDIR": temporary}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


def test_nothing_survives_a_kill(vllm_folder: Path, tmp_path: Path) -> None:
    with program(tmp_path, vllm_folder, "sleep") as process:
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


@pytest.fixture
def temporary() -> Iterator[str]:
    """An empty folder with a short path: names of sockets may not be long."""
    with tempfile.TemporaryDirectory(prefix="aem-t-") as made:
        yield made


def test_ctrl_c_reaches_the_program_and_not_its_engine(vllm_folder: Path, tmp_path: Path, temporary: str) -> None:
    """And what it had in the folder for temporary files is gone, but for what torch keeps."""
    with program(tmp_path, vllm_folder, "ask", temporary) as process:
        assert any(name.startswith("aem-vllm-") for name in os.listdir(temporary))
        for child in psutil.Process(process.pid).children(recursive=True):
            child.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() in ("stop\n", "length\n")
        family = psutil.Process(process.pid).children(recursive=True)
        assert process.stdout.readline() == "closed\n"
        process.wait(30)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive and process.returncode == 0
    assert [name for name in os.listdir(temporary) if not name.startswith("torchinductor_")] == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_engine_fails_its_requests_and_hangs_nobody(vllm_folder: Path, end: int) -> None:
    """An orderly end too, which vLLM's client does not notice."""
    engine = load(vllm_folder, max_batch=4)
    mine = [p for p in psutil.Process().children(recursive=True) if p.pid in _pids(engine)]

    async def main() -> list[Any]:
        asked = [replace(r, sampling=Sampling(max_new_tokens=450)) for r in requests(6)]
        tasks = [asyncio.ensure_future(engine.generate(r)) for r in asked]
        await asyncio.sleep(0.1)
        for process in mine:
            process.send_signal(end)
        return await asyncio.gather(*tasks, return_exceptions=True)

    ended = run(main())
    assert any(isinstance(x, EngineError) for x in ended)
    assert all(isinstance(x, EngineError) or x.token_ids for x in ended)
    with pytest.raises(EngineError):
        run(engine.generate(requests(1)[0]))
    run(engine.aclose())
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in mine)


def _pids(engine: Any) -> set[int]:
    from aem_agent.engines import vllm_compat

    return {process.pid for process in vllm_compat.processes(engine.client.llm)}
