"""LoRA adapters of a running vLLM are taken, compared, replaced and dropped."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from tito import forward_logprobs
from vllm_help import answers, moved, requests, run

from aem_agent.model.interface import LanguageModel, load_model
from aem_agent.types import EngineError, WeightParityError

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def adapter(folder: Path, out: Path, seed: int) -> LanguageModel:
    """Writes a random adapter and returns the model with it merged in."""
    import peft
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    model.save_pretrained(out)
    merged = model.merge_and_unload()
    from aem_agent.model.weights import import_weights

    language_model: Any = load_model(folder)
    import_weights(language_model, {n: p.detach() for n, p in merged.named_parameters()})
    return language_model


def test_adapters_replace_one_another(vllm_lora_engine: Any, vllm_folder: Path, tmp_path: Path) -> None:
    engine, asked = vllm_lora_engine, requests(4)
    base = load_model(vllm_folder)
    models = [adapter(vllm_folder, tmp_path / str(seed), seed) for seed in (0, 1)]
    for folder, model in ((tmp_path / "0", models[0]), (tmp_path / "1", models[1]), (None, base)):
        before = engine.version
        run(engine.load_adapter(folder, model=model))
        for request, response in zip(asked, run(answers(engine, asked))):
            want = forward_logprobs(model, request.prompt_token_ids, response.token_ids, 1.0)
            assert response.logprobs == pytest.approx(want, abs=1e-4)
            assert response.policy_versions == ((0, before + 1),)


def test_what_is_no_adapter_is_refused_and_the_wrong_one_noticed(
    vllm_lora_engine: Any, vllm_folder: Path, tmp_path: Path
) -> None:
    engine = vllm_lora_engine
    model = adapter(vllm_folder, tmp_path / "a", 2)
    before = engine.version
    with pytest.raises(EngineError, match="nothing"):
        run(engine.load_adapter(tmp_path / "nothing"))
    assert engine.version == before and run(engine.generate(requests(1)[0])).token_ids
    with pytest.raises(WeightParityError):
        run(engine.load_adapter(tmp_path / "a", model=moved(vllm_folder, 3)))
    with pytest.raises(EngineError, match="load weights again"):
        run(engine.generate(requests(1)[0]))
    run(engine.load_adapter(tmp_path / "a", model=model))
    assert asyncio.run(engine.generate(requests(1)[0])).token_ids
    with pytest.raises(EngineError, match="load_adapter"):
        run(engine.load_weights(model))
