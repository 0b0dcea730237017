"""AEM inside the real TRL: a tiny model of ours, trained by `GRPOTrainer` with and without the adapter."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aem_agent.model.presets import make_preset, preset
from trainer.aem import modulate
from trainer.config import AemConfig

pytestmark = pytest.mark.slow
Batch = dict[str, Tensor]


@pytest.fixture(scope="session")
def trl() -> Any:
    """The trainings of `trl_runs.py`; a fixture, since TRL takes seconds to import."""
    pytest.importorskip("trl")
    return importlib.import_module("trl_runs")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose entropies differ by more than the range guard."""
    words = " ".join(f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh")
    return make_preset(preset("tiny", init_std=0.3), tmp_path_factory.mktemp("trl") / "model", 0, [words] * 2)


def weights(trainer: Any) -> dict[str, Tensor]:
    return dict(trainer.model.state_dict())


def plain_advantages(batch: dict[str, Tensor], size: int = 4) -> list[float]:
    """(R − mean)/(std + 1e-4) in each group, from the completions themselves."""
    lengths = batch.get("lengths", batch["completion_mask"].sum(1)).tolist()
    said = [ids[:n] for ids, n in zip(batch["completion_ids"].tolist(), lengths)]
    rewards = torch.tensor([sum(t % 2 for t in ids) / len(ids) for ids in said], dtype=torch.float64).view(-1, size)
    return ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)).flatten().tolist()


def runs_of(row: list[bool]) -> list[list[int]]:
    """Places of the unbroken runs of true entries."""
    found: list[list[int]] = []
    for place, inside in enumerate(row):
        if inside and (place == 0 or not row[place - 1]):
            found.append([])
        if inside:
            found[-1].append(place)
    return found


def expected(batch: dict[str, Tensor], advantages: list[float], *, surprisal: bool = False, **options: Any) -> Tensor:
    """[B, C]: what `modulate` makes of the entropies of the plain forward pass, run by run; NaN at other tokens."""
    mask = batch["completion_mask"] * batch.get("tool_mask", 1)
    values = -batch["logprobs"] if surprisal else batch["entropies"]
    runs = [(row, places) for row, inside in enumerate(mask.bool().tolist()) for places in runs_of(inside)]
    rows = torch.tensor([row for row, _ in runs])
    found = modulate(
        torch.tensor([advantages[row] for row, _ in runs], dtype=torch.float64),
        torch.stack([values[row, places].mean() for row, places in runs]),
        rows // 4,
        trajectory=rows,
        **options,
    ).advantages
    out = torch.full(mask.shape, torch.nan, dtype=torch.float64)
    for (row, places), value in zip(runs, found):
        out[row, places] = value
    return out


def check(batch: dict[str, Tensor], advantages: list[float], **options: Any) -> None:
    """The batch holds those advantages at every token that counts."""
    wanted = expected(batch, advantages, **options)
    held = batch["advantages"] if batch["advantages"].dim() == 2 else batch["advantages"].unsqueeze(1)
    torch.testing.assert_close(
        torch.where(wanted.isnan(), torch.nan, held.expand(wanted.shape).double()),
        wanted,
        rtol=1e-4,
        atol=1e-5,
        equal_nan=True,
    )


def test_responses_are_unbroken_runs(trl: Any) -> None:
    mask = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]], dtype=torch.bool)
    span, row = trl.responses(mask)
    assert span.tolist() == [0, 0, 1, 2, 3, 3, 4, 4]
    assert row.tolist() == [0, 0, 1, 1, 3]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps_per_generation": 1},
        {"num_iterations": 2},
        {"gradient_accumulation_steps": 2, "max_steps": 2},
        {"beta": 0.04, "max_steps": 2},
        {"beta": 0.04, "steps_per_generation": 1, "max_steps": 2},
    ],
    ids=["scored by TRL", "scored here", "iterations", "accumulated", "reference", "reference, scored here"],
)
def test_lambda_zero_is_plain_trl_bit_for_bit(trl: Any, folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    if options.get("steps_per_generation") == 1:
        options = {**options, "per_device_train_batch_size": 8}
    trained = []
    for kind, more in (
        (trl.GRPOTrainer, {}),
        (trl.AemGRPOTrainer, {"aem": AemConfig(lam=0.0)}),
        (trl.AemGRPOTrainer, {}),
    ):
        trainer = trl.made(kind, folder, tmp_path, options=options, **more)
        trainer.train()
        trained.append(weights(trainer))
    plain, zero, one = trained
    assert all(torch.equal(plain[name], zero[name]) for name in plain)
    assert not all(torch.equal(plain[name], one[name]) for name in plain)


@pytest.mark.parametrize("scored_by_trl", [True, False])
def test_lambda_one_applies_our_alpha(trl: Any, folder: Path, tmp_path: Path, scored_by_trl: bool) -> None:
    """In every batch, also those that later weights sampled; and where TRL scores, nothing is computed twice."""
    sizes = {} if scored_by_trl else {"steps_per_generation": 1, "per_device_train_batch_size": 8}
    trainer = trl.made(trl.Modulated, folder, tmp_path, options=sizes)
    if scored_by_trl:
        trainer._score = None  # would fail if called
    trainer.train()
    assert len(trainer.batches) == (2 if scored_by_trl else 4)
    for batch in trainer.batches:
        check(batch, plain_advantages(batch))
        assert batch["advantages"].shape == (8,)
    plain = trl.made(trl.Plain, folder, tmp_path, options=sizes)
    plain.train()
    first, other = trainer.batches[0], plain.batches[0]
    assert torch.equal(first["completion_ids"], other["completion_ids"])
    alpha = first["advantages"] / other["advantages"]
    assert float(alpha.nan_to_num(1.0).max()) > 1.1
    logged = trainer.state.log_history[0]
    assert logged["aem/uncertainty_max"] - logged["aem/uncertainty_min"] > 0.1


@pytest.mark.parametrize("scored_by_trl", [True, False])
def test_with_peft_alpha_is_of_the_adapted_model(trl: Any, folder: Path, tmp_path: Path, scored_by_trl: bool) -> None:
    """The reference is then the same module, its adapters switched off."""
    peft = pytest.importorskip("peft")
    options: dict[str, Any] = {"beta": 0.04, "learning_rate": 0.1}
    if not scored_by_trl:
        options |= {"steps_per_generation": 1, "per_device_train_batch_size": 8}
    lora = peft.LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"])
    trainer = trl.made(trl.Modulated, folder, tmp_path, options=options, peft_config=lora)
    trainer.train()
    batch = trainer.batches[-1]
    check(batch, plain_advantages(batch))
    with trainer.model.disable_adapter(), pytest.raises(AssertionError):
        check(batch | trl.scored(trainer, batch), plain_advantages(batch))


def two_turns(prompts: list[str], trainer: Any) -> dict[str, Any]:
    """Three tokens of the model, two of the environment, and one to three of the model; not sampled."""
    ids = trainer.processing_class(prompts)["input_ids"]
    said = [[7 + (5 * i + 3 * k) % 40 for k in range(6 + i % 3)] for i in range(len(prompts))]
    masks = [[1, 1, 1, 0, 0, *[1] * (len(x) - 5)] for x in said]
    zeros = [[0.0] * len(x) for x in said]
    return {"prompt_ids": ids, "completion_ids": said, "logprobs": zeros, "env_mask": masks}


@pytest.mark.parametrize(
    "aem",
    [
        {},
        {"scope": "trajectory", "range_guard": 0.0},
        {"sign_mask": "fall"},
        {"proxy": "mean_token_surprisal", "direction": "reversed"},
    ],
    ids=["default", "trajectory", "masked", "surprisal, reversed"],
)
def test_each_run_of_model_tokens_is_a_response(trl: Any, folder: Path, tmp_path: Path, aem: dict[str, Any]) -> None:
    trainer = trl.made(
        trl.Modulated, folder, tmp_path, options={"max_steps": 2}, aem=AemConfig(**aem), rollout_func=two_turns
    )
    trainer.train()
    (batch,) = trainer.batches
    options = {name: value for name, value in aem.items() if name != "proxy"}
    check(batch, plain_advantages(batch), surprisal="proxy" in aem, **options)
    assert batch["advantages"].shape == batch["completion_ids"].shape
    assert len({round(value, 6) for value in batch["advantages"][0].tolist()}) > 1


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_lambda_zero_in_several_turns_is_plain_trl(trl: Any, folder: Path, tmp_path: Path, level: str) -> None:
    trained = []
    options = {"importance_sampling_level": level, "max_steps": 2}
    for kind, more in ((trl.GRPOTrainer, {}), (trl.AemGRPOTrainer, {"aem": AemConfig(lam=0.0)})):
        trainer = trl.made(kind, folder, tmp_path, options=options, rollout_func=two_turns, **more)
        trainer.train()
        trained.append(weights(trainer))
    plain, zero = trained
    assert all(torch.equal(plain[name], zero[name]) for name in plain)


def some_unfinished(prompts: list[str], trainer: Any) -> dict[str, Any]:
    """Every third completion has no end token."""
    ids, end = trainer.processing_class(prompts)["input_ids"], trainer.processing_class.eos_token_id
    said = [[7 + (5 * i + 3 * k) % 40 for k in range(4 + i % 2)] + [end] * (i % 3 > 0) for i in range(len(prompts))]
    return {"prompt_ids": ids, "completion_ids": said, "logprobs": [[0.0] * len(x) for x in said]}


def test_masked_completions_are_not_counted(trl: Any, folder: Path, tmp_path: Path) -> None:
    options = {"mask_truncated_completions": True, "max_steps": 2}
    trainer = trl.made(trl.Modulated, folder, tmp_path, options=options, rollout_func=some_unfinished)
    trainer.train()
    (batch,) = trainer.batches
    assert (batch["completion_mask"].sum(1) == 0).tolist() == [i % 3 == 0 for i in range(8)]
    advantages = plain_advantages(batch | {"lengths": torch.tensor([4 + i % 2 + (i % 3 > 0) for i in range(8)])})
    check(batch, advantages)
    masked = [0, 3, 6]
    torch.testing.assert_close(batch["advantages"][masked].tolist(), [advantages[i] for i in masked], rtol=1e-4, atol=0)


def none_finished(prompts: list[str], trainer: Any) -> dict[str, Any]:
    ids = trainer.processing_class(prompts)["input_ids"]
    said = [[7 + (5 * i + 3 * k) % 40 for k in range(5)] for i in range(len(prompts))]
    return {"prompt_ids": ids, "completion_ids": said, "logprobs": [[0.0] * 5 for _ in said]}


def test_of_a_batch_that_is_masked_whole_nothing_is_logged(trl: Any, folder: Path, tmp_path: Path) -> None:
    options = {"mask_truncated_completions": True, "max_steps": 2}
    trainer = trl.made(trl.Modulated, folder, tmp_path, options=options, rollout_func=none_finished)
    trainer.train()
    (batch,) = trainer.batches
    assert not batch["completion_mask"].any()
    assert not any(name.startswith("aem/") for entry in trainer.state.log_history for name in entry)


def test_evaluation_and_switched_off_are_untouched(trl: Any, folder: Path, tmp_path: Path) -> None:
    trainer = trl.made(trl.Modulated, folder, tmp_path)
    trainer.model.eval()
    trainer._generate_and_score_completions([{"prompt": trl.PROMPTS[i // 4]} for i in range(8)])
    off = trl.made(trl.Modulated, folder, tmp_path, aem=AemConfig(enabled=False))
    off._score = off._modulated = None
    off.train()
    for batch in (*trainer.batches, *off.batches):
        torch.testing.assert_close(batch["advantages"].tolist(), plain_advantages(batch), rtol=1e-4, atol=1e-4)
    assert not any(name.startswith("aem/") for name in (*trainer._metrics["eval"], *trainer._metrics["train"]))


def test_a_trainer_without_the_methods_is_refused(trl: Any) -> None:
    class Other(trl.AemMixin):
        pass

    with pytest.raises(trl.AdapterError, match="_generate_and_score_completions"):
        Other()


def test_groups_over_two_processes(trl: Any, folder: Path, tmp_path: Path) -> None:
    """Three groups of 4 over two processes of 6 each: α of the middle one comes from both."""
    program = Path(__file__).with_name("trl_runs.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, str(program), str(folder), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for first, second in zip(*parts, strict=True):
        check(joined(first, second), plain_advantages(joined(first, second)))


def joined(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
    """One batch of both processes' rows, padded to the longer."""
    width = max(first["completion_ids"].shape[1], second["completion_ids"].shape[1])
    names = ("completion_ids", "completion_mask", "entropies", "logprobs")
    out = {
        name: torch.cat([torch.nn.functional.pad(x[name], (0, width - x[name].shape[1])) for x in (first, second)])
        for name in names
    }
    return out | {"advantages": torch.cat([first["advantages"], second["advantages"]])}
