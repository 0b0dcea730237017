"""What an update of the in-process engine lets through, what is left behind, and how long probes are. Needs no vLLM."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_vllm_versions import FakeSender, FakeVllm

from aem_agent.engines import vllm_compat as compat
from aem_agent.engines import vllm_room, vllm_transfer
from aem_agent.engines.loop_thread import LoopThread
from aem_agent.engines.vllm_client import VllmClient
from aem_agent.engines.vllm_engine import VllmEngine
from aem_agent.engines.vllm_settings import VllmSettings
from aem_agent.model.interface import load_model, load_tokenizer
from aem_agent.types import EngineError, GenerateRequest, Sampling, WeightParityError

ASKED = GenerateRequest((7,), Sampling(max_new_tokens=2), 0)


@pytest.fixture
def fake(vllm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[VllmEngine, FakeVllm, Any]]:
    """An engine, and the event that its answers wait for; the check of its weights ends as `told` says."""
    llm, told = FakeVllm(), SimpleNamespace(answer=asyncio.Event(), started=asyncio.Event(), error=None)

    async def answer(*_: Any) -> compat.Answer:
        told.started.set()
        await told.answer.wait()
        return compat.Answer((7, 8), (-0.5, -0.5), "length")

    async def compare(*_: Any) -> None:
        told.answer.set()
        for _ in range(20):
            await asyncio.sleep(0)
        if told.error is not None:
            raise told.error

    monkeypatch.setattr(compat, "sampling_params", lambda *a: None)
    monkeypatch.setattr(compat, "answer", answer)
    monkeypatch.setattr(VllmEngine, "_compare", compare)
    settings = VllmSettings.of(vllm_folder, "cpu", 4, {})
    client = VllmClient(llm, LoopThread("fake"))
    engine = VllmEngine(load_tokenizer(vllm_folder), settings, client, FakeSender(llm))
    yield engine, llm, told
    asyncio.run(engine.aclose())


async def begun(engine: VllmEngine, event: asyncio.Event) -> None:
    await engine.client.thread.run(event.wait())  # type: ignore[arg-type]


def test_unchecked_weights_do_not_answer_what_had_no_token_yet(
    fake: tuple[VllmEngine, FakeVllm, Any], vllm_folder: Path
) -> None:
    """The answer comes while the check is under way, and the check fails."""
    engine, _, told = fake
    told.error = WeightParityError("stale")

    async def main() -> Any:
        asking = asyncio.ensure_future(engine.generate(ASKED))
        await begun(engine, told.started)
        with pytest.raises(WeightParityError):
            await engine.load_weights(load_model(vllm_folder), running="keep")
        (ended,) = await asyncio.gather(asking, return_exceptions=True)
        return ended

    ended = asyncio.run(main())
    assert isinstance(ended, EngineError) and "load weights again" in str(ended)


def test_checked_ones_do(fake: tuple[VllmEngine, FakeVllm, Any], vllm_folder: Path) -> None:
    engine, _, told = fake

    async def main() -> Any:
        asking = asyncio.ensure_future(engine.generate(ASKED))
        await begun(engine, told.started)
        await engine.load_weights(load_model(vllm_folder), running="keep")
        return await asking

    assert asyncio.run(main()).policy_versions == ((0, 1),)


def test_a_cancelled_update_that_changed_nothing_aborts_nothing(
    fake: tuple[VllmEngine, FakeVllm, Any], vllm_folder: Path
) -> None:
    engine, llm, told = fake

    async def main() -> Any:
        asking = asyncio.ensure_future(engine.generate(ASKED))
        await begun(engine, told.started)
        updating = asyncio.ensure_future(engine.load_weights(load_model(vllm_folder)))
        await asyncio.sleep(0.2)
        updating.cancel()
        await asyncio.gather(updating, return_exceptions=True)
        engine.client.thread.loop.call_soon_threadsafe(told.answer.set)
        return await asking

    assert asyncio.run(main()).policy_versions == ((0, 0),)
    assert "abort" not in llm.calls and "sent" not in llm.calls


@pytest.mark.parametrize("positions", [2, 3, 5, 19, 20, 21, 512, 100_000])
def test_probes_fit_into_what_the_engine_takes(vllm_folder: Path, positions: int) -> None:
    model = load_model(vllm_folder)
    for longest in (16, 300):
        prompt, new = vllm_transfer.probe(model, positions, longest)
        assert 1 <= len(prompt) <= longest and new >= 1 and len(prompt) + new <= min(positions, model.max_positions)


def test_a_vllm_that_is_not_as_it_was_is_refused() -> None:
    def llm(**lacking: Any) -> Any:
        core = {"outputs_queue": 1, "resources": SimpleNamespace(engine_manager=SimpleNamespace(processes=[1]))}
        outside = {"engine_core": SimpleNamespace(**core | lacking)}
        return SimpleNamespace(output_processor=SimpleNamespace(request_states={}), **outside)

    compat.assert_known(llm())
    with pytest.raises(compat.VllmVersionError, match="processes"):
        compat.assert_known(llm(resources=None))
    changed = llm()
    del changed.engine_core.outputs_queue
    with pytest.raises(compat.VllmVersionError, match="outputs_queue"):
        compat.assert_known(changed)


def test_rooms_go_with_their_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_room.tempfile, "tempdir", str(tmp_path))
    room, old, foreign = vllm_room.Room(), tmp_path / "aem-vllm-old", tmp_path / "aem-vllm-link"
    old.mkdir()
    (old / "owner.lock").touch()
    (old / "socket").touch()
    foreign.symlink_to(room.folder)
    past = time.time() - 1000
    for folder in (old, room.folder):
        os.utime(folder, (past, past))
    vllm_room.clear_abandoned()
    assert not old.exists() and room.folder.is_dir() and foreign.is_symlink(), "one that is held stays"
    assert (room.folder / "owner.lock").stat().st_mode & 0o077 == room.folder.stat().st_mode & 0o077 == 0
    room.close()
    room.close()
    assert not room.folder.exists()
