"""Runs that train adapters: weights stay, exports are merged, resuming is exact, engines sample what is trained."""

import asyncio
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers
from helpers import figures, quick, resume, run
from safetensors.torch import load_file
from tiny_models import adapted
from torch import Tensor, nn
from torch.testing import assert_close

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.interface import load_model, load_tokenizer
from aem_agent.types import GenerateRequest, Sampling
from trainer.config import ScaleConfig

RUN = ("scale.lora_rank=2", "scale.lora_alpha=8", "evaluation.every=2", "evaluation.interim_tasks=2")


@pytest.fixture(scope="module")
def whole_lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "whole"
    run(quick(*RUN), path)
    return path


def checkpoint(path: Path, name: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(path / "checkpoints" / name / "model.safetensors")
    return found


def test_a_run_trains_adapters_and_leaves_the_weights_bit_for_bit(whole_lora: Path) -> None:
    start = cast(nn.Module, load_model(whole_lora / "init")).state_dict()
    before, after = checkpoint(whole_lora, "2-0000000"), checkpoint(whole_lora, "2-0000004")
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        if "lora_" in name:
            assert not torch.equal(tensor, before[name])  # in RL
            assert "lora_A" in name or before[name].any()  # in the warm start, which trains them too
        else:
            assert torch.equal(tensor, start[name.replace(".base_layer", "")])
    saved = torch.load(whole_lora / "checkpoints" / "2-0000004" / "optimiser.pt", weights_only=True)
    assert len(saved["policy"]["state"]) == sum("lora_" in name for name in after)
    assert saved["policy"]["param_groups"][0]["params"] == list(range(len(saved["policy"]["state"])))


def test_its_best_weights_load_in_transformers_and_the_adapter_in_peft(whole_lora: Path) -> None:
    import peft

    best = whole_lora / "best"
    ours = load_model(best)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(best, local_files_only=True).eval()
    ids = torch.arange(1, 9)
    want = loaded(ids[None]).logits[0]
    assert_close(ours.head(ours.hidden(ids, torch.tensor([0, 8]))), want, rtol=0, atol=1e-5)
    base = transformers.AutoModelForCausalLM.from_pretrained(whole_lora / "init", local_files_only=True)
    assert (base(ids[None]).logits[0] - want).abs().max() > 1e-3
    adapter = peft.PeftModel.from_pretrained(base, str(best / "adapter")).eval()
    assert_close(adapter(ids[None]).logits[0], want, rtol=0, atol=1e-5)


def test_a_resumed_run_is_the_uninterrupted_one(whole_lora: Path, tmp_path: Path) -> None:
    path = tmp_path / "resumed"
    shutil.copytree(whole_lora, path, symlinks=True)
    for name in ("2-0000004", "2-0000003"):
        shutil.rmtree(path / "checkpoints" / name, ignore_errors=True)
    (path / "summary.json").unlink()
    resume(path)
    left, right = checkpoint(whole_lora, "2-0000004"), checkpoint(path, "2-0000004")
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    assert figures(whole_lora) == figures(path)


def test_the_adapter_is_written_as_it_was_trained_though_passes_compute_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(quick(*RUN, "scale.shard=true", "scale.precision=bfloat16"), path)
    best = (path / "best").resolve()
    trained, saved = checkpoint(path, best.name), load_file(best / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in load_file(best / "model.safetensors").values()} == {torch.bfloat16}
    layer, name = "blocks.1", "base_model.model.model.layers.1"
    for ours, theirs in (("out", "self_attn.o_proj"), ("down", "mlp.down_proj"), ("qkv", "self_attn.q_proj")):
        a = trained[f"{layer}.{ours}.lora_A.default.weight"]
        assert torch.equal(saved[f"{name}.{theirs}.lora_A.weight"], a) and not torch.equal(a.bfloat16().float(), a)
    b = trained[f"{layer}.gate_up.lora_B.default.weight"]
    parts = [saved[f"{name}.mlp.{part}_proj.lora_B.weight"] for part in ("gate", "up")]
    assert torch.equal(torch.cat(parts), b)
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}


def test_a_run_whose_engine_has_its_own_copy_pushes_merged_weights(tmp_path: Path) -> None:
    run(quick(*RUN, "rollout.staleness=1", "steps=2"), tmp_path / "run")
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.parametrize("share", [True, False])
def test_sampled_logprobs_are_the_trainers(whole_lora: Path, share: bool) -> None:
    folder = whole_lora / "init"
    model = adapted(load_model(folder), ScaleConfig(lora_rank=2))
    engine = TorchEngine(model if share else load_model(folder), load_tokenizer(folder), share=share)
    prompts = [tuple(range(1, 4 + i)) for i in range(4)]

    async def sampled() -> list[Any]:
        await engine.load_weights(model)
        asked = [GenerateRequest(p, Sampling(max_new_tokens=6, entropies=True), i) for i, p in enumerate(prompts)]
        return await asyncio.gather(*map(engine.generate, asked))

    for prompt, response in zip(prompts, asyncio.run(sampled()), strict=True):
        ids = torch.tensor([*prompt, *response.token_ids])
        at = torch.arange(len(prompt) - 1, len(ids) - 1)
        said = model.head(model.hidden(ids, torch.tensor([0, len(ids)]), at)).log_softmax(-1)
        want = said.gather(1, ids[at + 1, None])[:, 0]
        assert_close(torch.tensor(response.logprobs), want.detach(), rtol=0, atol=2e-5)
        plain = load_model(folder)
        base = plain.head(plain.hidden(ids, torch.tensor([0, len(ids)]), at)).log_softmax(-1)
        assert (base.gather(1, ids[at + 1, None])[:, 0] - want).abs().max() > 1e-3
