"""What a machine lacks is found all at once, apart from what is wrong in a recipe."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, quiet

from aem_envs.core import BadOptionError
from aem_envs.plugins import UnknownPluginError
from aem_envs.swebench.sandbox import levels
from envs_data.errors import DataError, DataUnavailableError
from trainer import missing, rollouts
from trainer.config import ConfigError
from trainer.dry_run import check_recipe, dry_run
from trainer.errors import RecipeError
from trainer.export import preset_folder
from trainer.memory_text import model_lines
from trainer.missing import Gaps, NotHereError
from trainer.overrides import override
from trainer.rollouts import task_pools
from trainer.runs import load_recipe, new_run


def fail(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


def test_what_is_lacking_is_noted_and_what_is_wrong_is_raised() -> None:
    gaps = Gaps()
    with gaps.noted(advice=": buy some"):
        fail(DataUnavailableError("no  data"))
    with gaps.noted():
        fail(DataError("rows.jsonl: cannot be read"), FileNotFoundError(2, "gone"))
    with gaps.noted(RecipeError):
        fail(RecipeError("no such thing here"))
    assert gaps.lines == ["no data: buy some", "rows.jsonl: cannot be read", "no such thing here"]
    with pytest.raises(DataError, match="damaged"), gaps.noted():
        fail(DataError("damaged"), OSError("bits"))
    with pytest.raises(ConfigError), gaps.noted():
        fail(ConfigError("wrong"))
    assert len(gaps.lines) == 3


def test_one_thing_is_refused_with_its_own_error_and_several_with_a_list() -> None:
    gaps = Gaps()
    gaps.refuse()
    for _ in range(2):
        with gaps.noted():
            fail(DataUnavailableError("no data"))
    with pytest.raises(DataUnavailableError):
        gaps.refuse()
    gaps.add("no model")
    with pytest.raises(NotHereError, match=r"\(1\) no data; \(2\) no model$"):
        gaps.refuse()


def test_a_model_folder_is_looked_at_part_by_part(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(RecipeError, match=r"model.path\) is not a model folder.*--set model.path=DIR"):
        check_recipe(quick(f"model.path={folder}"))
    made = preset_folder(quick(), folder, task_pools(quick()))
    check_recipe(quick(f"model.path={made}"))
    (made / "model.safetensors").unlink()
    with pytest.raises(RecipeError, match="weights"):
        check_recipe(quick(f"model.path={made}"))
    (made / "tokenizer.json").unlink()
    with pytest.raises(NotHereError, match=r"\(1\).*weights.*\(2\).*tokenizer"):
        check_recipe(quick(f"model.path={made}"))
    lines = dry_run(quick(f"model.path={made}"))
    assert "would not run here, for want of:" in lines and lines[-2].startswith("  2. ")


def test_a_missing_file_of_demonstrations_is_no_mistake(tmp_path: Path) -> None:
    config = quick(f"warmstart.data={tmp_path / 'none.jsonl'}")
    assert any("none.jsonl" in line and "warmstart.data" in line for line in dry_run(config)[-2:])
    with pytest.raises(RecipeError, match=r"none\.jsonl"), new_run(config, tmp_path / "r", quiet()):
        pass
    assert not (tmp_path / "r").exists()


def test_mistakes_are_found_though_things_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("webshop-grpo-1-5b")
    settings = (
        "rollout.engine_options.max_len=3",
        "env.kwargs.shop=x",
        "model.max_new_tokens=4608",
        "device=gpu",
        "env.train_split=nonsense",
        "evaluation.split=nonsense",
        "evaluation.interim_split=nonsense",
        "rollout.engine_options.tensor_parallel=5",
        "rollout.engine_options.max_model_len=32769",
        "rollout.engine_options.kv_cache_gib=0.1",
    )
    for setting in settings:
        with pytest.raises(Exception, match=setting.partition("=")[0].rpartition(".")[2] + "|gpu") as caught:
            dry_run(override(recipe, [setting]))
        assert not isinstance(caught.value, NotHereError)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("tensor_parallel=8", "must divide the 28 heads of the model, and divide its 4 key heads"),
        ("max_model_len=100000", "the model takes 32768 tokens"),
        # 2,560 tokens × 28 layers × 2 × one head of 128 × 2 bytes are 36,700,160 bytes
        ("kv_cache_gib=0.034", "holds no sequence of 2560 tokens, which takes 0.0342"),
    ],
)
def test_an_engine_that_the_model_cannot_have(setting: str, words: str) -> None:
    recipe = load_recipe("alfworld-dapo-7b")
    with pytest.raises(ConfigError, match=words):
        dry_run(override(recipe, [f"rollout.engine_options.{setting}"]))
    dry_run(override(recipe, ["rollout.engine_options.kv_cache_gib=0.035"]))


@pytest.mark.parametrize("name", ["alfworld-grpo-1-5b", "webshop-grpo-1-5b", "swebench-grpo-pp-32b"])
@pytest.mark.parametrize("key", ["env.train_split", "evaluation.split", "evaluation.interim_split"])
def test_splits_are_known_without_data(name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"^{key}=nonsense: aem/\w+-v0 has the splits train, "):
        dry_run(override(load_recipe(name), [f"{key}=nonsense"]))


def test_devices_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    gaps = Gaps()
    missing.note_devices(load_recipe("webshop-dapo-7b"), gaps)
    assert [line.partition(" needs")[0] for line in gaps.lines] == ["scale.processes=8"], "4 are enough for the engine"
    missing.note_devices(load_recipe("swebench-grpo-pp-32b"), gaps)
    assert any("tensor_parallel=8 needs" in line and "has 4" in line for line in gaps.lines)
    fine = Gaps()
    missing.note_devices(load_recipe("webshop-grpo-1-5b"), fine)
    missing.note_devices(quick("scale.processes=9"), fine)
    assert not fine.lines


@pytest.mark.parametrize(
    ("package", "setting", "words"),
    [
        ("ray", "rollout.pool=ray", "Ray is not installed"),
        ("peft", "scale.lora_rank=2", "needs peft"),
        ("tensorboard", "metrics.tensorboard=true", "needs tensorboard"),
        ("vllm", "rollout.engine=vllm", "vLLM is not installed"),
    ],
)
def test_packages_that_are_not_there(
    package: str, setting: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if package == "vllm" and importlib.util.find_spec("vllm") is not None:
        pytest.skip("it is there")
    real = importlib.util.find_spec
    for module in ("trainer.dry_run", "trainer.writers"):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None if name == package else real(name))
    monkeypatch.setitem(sys.modules, package, None)
    lines = dry_run(quick(setting))
    assert words in lines[-2] and "would not run here, for want of:" in lines


def test_sandboxes_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gaps = Gaps()
    missing.note_sandbox({"sandbox": "fake"}, gaps)
    missing.note_sandbox({"sandbox": "aem_envs.swebench.sandbox.fake:FakeSandbox"}, gaps)
    assert not gaps.lines
    with pytest.raises(UnknownPluginError, match="'dokker'; known: docker, fake, local"):
        dry_run(override(load_recipe("swebench-tiny"), ["env.kwargs.sandbox=dokker"]))
    monkeypatch.setattr(missing, "find_spec", lambda name: None)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    missing.note_sandbox({"source": "official"}, gaps)
    assert "swebench" in gaps.lines[0] and "ocker" in gaps.lines[1]
    monkeypatch.setattr(levels, "probe", lambda level: "not allowed")
    missing.note_sandbox({}, gaps)
    assert "bwrap: not allowed; userns: not allowed" in gaps.lines[2]
    missing.note_sandbox({"allow_unsafe": True}, gaps)
    assert len(gaps.lines) == 3


def test_memory_is_compared_with_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def gpu(size: float) -> None:
        found = SimpleNamespace(total_memory=int(size), name="Some GPU")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    recipe = load_recipe("alfworld-grpo-1-5b")
    gpu(80e9)
    totals = ("  at most at once", "host memory")
    most = [line for line in model_lines(recipe) if line.startswith(totals)]
    assert most[0].endswith(", of the 80.0 GB of Some GPU") and most[1].endswith("of this machine's memory")
    gpu(40e9)
    assert any(line.endswith(", MORE than the 40.0 GB of Some GPU") for line in model_lines(recipe))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    most = [line for line in model_lines(recipe) if line.startswith(totals)]
    assert [line[-3:] for line in most] == [" GB", "ed)"], "this is not the machine it would run on"
    (host,) = (line for line in model_lines(load_recipe("toy")) if line.startswith("host memory"))
    assert "of this machine's memory" in host


def test_data_without_one_of_the_splits_is_missing_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def partial(*arguments: Any, **options: Any) -> Any:
        env = made(*arguments, **options)
        env.splits = ("test",)
        return env

    made = rollouts.make_env
    monkeypatch.setattr(rollouts, "make_env", partial)
    lines = dry_run(quick())
    assert any("aem/Toy-v0 here has no split train, only test: get the rest" in line for line in lines)
    with pytest.raises(DataUnavailableError, match="no split train"):
        check_recipe(quick())
    with pytest.raises(BadOptionError, match="unknown split 'nonsense'"):
        dry_run(quick("env.train_split=nonsense"))
