"""LoRA: adapters are honoured on every path, exports are merged, runs train adapters alone and resume exactly."""

import json
import sys
from pathlib import Path
from typing import cast

import pytest
import torch
import transformers
from helpers import llama_folder, quick, run
from tiny_models import KINDS, LORA, adapted, decoder, llama, made
from torch import Tensor, nn
from torch.testing import assert_close

from aem_agent.model.activations import set_activation_checkpointing
from aem_agent.model.interface import LanguageModel, load_model
from aem_agent.model.lora_layers import Merged, some_rows, take_merged
from trainer.config import ScaleConfig
from trainer.dry_run import check_recipe
from trainer.lora import LoraError, adapt, adapters_off, save_adapter

SEQUENCES = [[5, 6, 7, 8, 9, 1, 2], [3, 4], [5, 6, 7, 8, 9, 4, 30, 31, 2], [11, 12, 13]]
TOKENS = torch.tensor([t for s in SEQUENCES for t in s])
CU = torch.tensor([0, *(len(s) for s in SEQUENCES)]).cumsum(0)
AT = torch.tensor([6, 0, 3, 8, 15, 20])
RUN = ("scale.lora_rank=2", "scale.lora_alpha=8")


def logits(model: LanguageModel, at: Tensor | None = None) -> Tensor:
    return model.head(model.hidden(TOKENS, CU, at))


def theirs(model: nn.Module) -> Tensor:
    return torch.cat([model(torch.tensor([s])).logits[0] for s in SEQUENCES])


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_is_the_model_as_it_was_and_only_adapters_are_trained(kind: str) -> None:
    plain, model, again, other = (made(kind) for _ in range(4))
    state = torch.get_rng_state()
    adapt(model, LORA, 7)
    adapt(again, LORA, 7)
    adapt(other, LORA, 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(model), logits(plain)) and torch.equal(logits(model, AT), logits(plain, AT))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = 7 * 2 if kind.startswith("llama") else 4 * 3
    assert len(trained) == 2 * matrices and all("lora_" in name for name in trained)
    one, two, three = (dict(m.named_parameters()) for m in (model, again, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    for name in trained:
        assert ("lora_A" in name) == (not torch.equal(one[name], three[name]))
    bound = max(float(p.detach().abs().max()) * p.shape[1] ** 0.5 for name, p in trained.items() if "lora_A" in name)
    assert 0.95 < bound <= 1  # uniform within ±1/√in
    assert not any(m.training for m in cast(nn.Module, model).modules())


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_path_honours_adapters(kind: str) -> None:
    model = adapted(made(kind))
    want = logits(model)
    assert (want - logits(made(kind))).abs().max() > 0.1
    assert_close(logits(model, AT), want[AT], rtol=0, atol=1e-5)
    for i, sequence in enumerate(SEQUENCES):  # cached: a prompt of all but two tokens, then the two
        ids = torch.tensor(sequence)
        begun, start = max(1, len(ids) - 2), int(CU[i])
        hidden, cache = model.prefill(ids[:begun], torch.tensor([0, begun]), 2)
        assert_close(model.head(hidden)[0], want[start + begun - 1], rtol=0, atol=1e-5)
        for place in range(begun, len(ids)):
            found = model.head(model.step(ids[place : place + 1], cache))[0]
            assert_close(found, want[start + place], rtol=0, atol=1e-5)
    merged = made(kind)
    cast(nn.Module, merged).load_state_dict(dict(Merged(cast(nn.Module, model))))
    assert_close(logits(merged), want, rtol=0, atol=2e-5)


def test_some_rows_are_rows_of_the_whole_and_pass_gradients_on() -> None:
    layer = adapted(decoder("qwen2")).blocks[0].qkv  # type: ignore[attr-defined]
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    whole = layer(x)
    assert_close(torch.cat([some_rows(layer, x, 0, 30), some_rows(layer, x, 30, 64)], 1), whole)
    weight = torch.randn(whole.shape, generator=torch.Generator().manual_seed(1))

    def gradients(y: Tensor) -> list[Tensor]:
        layer.zero_grad()
        (y * weight).sum().backward()  # type: ignore[no-untyped-call]
        return [p.grad.clone() for p in layer.parameters() if p.requires_grad]

    parts = gradients(torch.cat([some_rows(layer, x, 0, 30), some_rows(layer, x, 30, 64)], 1))
    for found, want in zip(parts, gradients(whole), strict=True):
        assert_close(found, want)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_adapters_off_is_the_model_before_and_is_undone(kind: str) -> None:
    model, plain = adapted(made(kind)), made(kind)
    want, asked = logits(model, AT), [p.requires_grad for p in model.parameters()]
    with adapters_off(model), adapters_off(model):
        assert torch.equal(logits(model), logits(plain)) and torch.equal(logits(model, AT), logits(plain, AT))
        assert [p.requires_grad for p in model.parameters()] == asked
    with pytest.raises(KeyError), adapters_off(model):
        raise KeyError
    assert torch.equal(logits(model, AT), want)
    with adapters_off(plain):
        assert logits(plain).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_export_and_save_give_merged_weights_in_transformers_names(kind: str, tmp_path: Path) -> None:
    model, plain = adapted(made(kind)), made(kind)
    want, state = logits(model), {k: v.clone() for k, v in cast(nn.Module, model).state_dict().items()}
    assert [(n, tuple(w.shape)) for n, w in model.export()] == [(n, tuple(w.shape)) for n, w in plain.export()]
    model.save(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    assert_close(theirs(loaded), want, rtol=0, atol=2e-5)
    assert_close(logits(load_model(tmp_path)), want, rtol=0, atol=2e-5)
    exported, own = dict(model.export()), dict(loaded.named_parameters())
    assert exported.keys() == own.keys() and all(torch.equal(exported[name], own[name]) for name in own)
    assert all(torch.equal(v, state[k]) for k, v in cast(nn.Module, model).state_dict().items())
    assert torch.equal(logits(model), want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", [("qkv", "out", "gate_up", "down"), ("qkv",)], ids=["all", "qkv"])
@torch.no_grad()
def test_peft_loads_the_adapter_onto_the_model_in_transformers(
    kind: str, targets: tuple[str, ...], tmp_path: Path
) -> None:
    import peft

    made(kind).save(tmp_path / "base")
    model = adapted(made(kind), ScaleConfig(lora_rank=3, lora_alpha=6.0, lora_targets=targets))
    save_adapter(model, tmp_path / "adapter", "base")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", local_files_only=True)
    loaded = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    assert_close(theirs(loaded), logits(model), rtol=0, atol=1e-5)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 3 and config["lora_alpha"] == 6 and config["peft_type"] == "LORA"
    assert set(config["target_modules"]) >= {"q_proj", "k_proj", "v_proj"}  # kinds of layers, as vLLM takes them


@torch.no_grad()
def test_an_adapter_of_one_layer_alone_names_it(tmp_path: Path) -> None:
    import peft

    decoder().save(tmp_path / "base")
    model = adapted(cast(LanguageModel, decoder()), ScaleConfig(lora_rank=2, lora_targets=("blocks.1.gate_up",)))
    save_adapter(model, tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", local_files_only=True)
    loaded = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    assert len([name for name, _ in loaded.named_parameters() if "lora_A" in name]) == 2
    assert_close(theirs(loaded), logits(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_were_merged_come_back_without_adapters(kind: str, tmp_path: Path) -> None:
    model = adapted(made(kind))
    want = logits(model).detach()
    model.save(tmp_path)
    take_merged(cast(nn.Module, model), cast(nn.Module, load_model(tmp_path)).state_dict())
    assert_close(logits(model), want, rtol=0, atol=2e-5)
    with adapters_off(model):
        assert_close(logits(model), want, rtol=0, atol=2e-5)
    with pytest.raises(RuntimeError, match="norm"):
        take_merged(cast(nn.Module, model), {})


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_with_activation_checkpointing_gradients_are_the_same(kind: str) -> None:
    model = adapted(made(kind))

    def gradients() -> list[Tensor]:
        cast(nn.Module, model).zero_grad()
        logits(model, AT).square().sum().backward()  # type: ignore[no-untyped-call]
        return [p.grad for p in model.parameters() if p.grad is not None]

    want = gradients()
    set_activation_checkpointing(model, True)
    assert len(want) > 12 and all(map(torch.equal, gradients(), want))


def test_what_cannot_be_adapted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cast(LanguageModel, decoder())
    for targets, message in ((("q_proj",), "down, gate_up, out, qkv"), (("lm_head",), "head is not"), ((), "empty")):
        with pytest.raises(LoraError, match=message):
            adapt(model, ScaleConfig(lora_rank=2, lora_targets=targets), 0)
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(LoraError, match="no adapters"):
        save_adapter(model, Path("nowhere"))
    adapt(model, LORA, 0)
    with pytest.raises(LoraError, match="already"):
        adapt(model, LORA, 0)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(LoraError, match="pip install"):
        adapt(cast(LanguageModel, llama()), LORA, 0)


def test_a_missing_peft_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(LoraError, match="lora_rank=0"):
        run(quick(*RUN), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_targets_that_match_nothing_are_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(LoraError, match="choose among down, gate_up, out, qkv"):
        run(quick(*RUN, "scale.lora_targets=q_proj"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for targets in ("qkv,down", "blocks.0.out"):
        check_recipe(quick(*RUN, f"scale.lora_targets={targets}"))


def test_targets_of_transformers_models_are_looked_for_in_their_own_names(tmp_path: Path) -> None:
    folder = llama_folder(tmp_path / "llama")
    settings = (*RUN, f"model.path={folder}", "warmstart.steps=0", "steps=0")
    for targets in ("q_proj,down_proj", "qkv,down", "layers.1.mlp.up_proj"):
        check_recipe(quick(*settings, f"scale.lora_targets={targets}"))
    for targets in ("q_prj", "lm_head", "blocks.0.out"):
        with pytest.raises(LoraError, match="choose among down_proj, gate_proj"):
            run(quick(*settings, f"scale.lora_targets={targets}"), tmp_path / "run")
        assert not (tmp_path / "run").exists()
