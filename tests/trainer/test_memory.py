"""Parameters are counted exactly, memory is estimated by sums worked out by hand and compared with real tensors."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.optim.optimizer import register_optimizer_step_pre_hook

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, quiet
from tiny_models import made

from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from aem_agent.model.presets import PRESETS
from trainer import memory
from trainer.batch import Batch
from trainer.config import ModelConfig, OptimiserConfig, RolloutConfig, ScaleConfig, TrainConfig
from trainer.loop import train
from trainer.lora import LoraError, adapt
from trainer.memory import Shape, estimate
from trainer.memory_text import model_lines
from trainer.minibatches import minibatches
from trainer.overrides import override
from trainer.runs import load_recipe, new_run
from trainer.shapes import PUBLISHED, decoder_shape, folder_shape, preset_shape, shape_of
from trainer.weights import Weights

# 2 layers: norms 8, qkv 4·8 + 8 biases, out 4·4, gate and up 4·12, down 6·4 = 136; outside 10·4 + 4 = 44
SMALL = DecoderConfig(
    "qwen2", vocab_size=10, hidden_size=4, layers=2, heads=2, kv_heads=1, head_dim=2, ffn=6, tied=True
)


def transformers_count(config: DecoderConfig) -> int:
    """Parameters of transformers' model of this architecture, made without memory."""
    from transformers import AutoConfig, AutoModelForCausalLM

    raw = config.to_json()
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(AutoConfig.for_model(**raw))
    return int(lm.num_parameters())


def test_parameters_by_hand() -> None:
    shape = decoder_shape(SMALL)
    assert (shape.parameters, shape.outside, shape.per_layer) == (2 * 136 + 44, 44, 136)
    assert decoder_shape(replace(SMALL, tied=False)).parameters == 316 + 40
    assert decoder_shape(replace(SMALL, family="qwen3")).parameters == 316 + 2 * (4 - 8)  # norms of heads, no biases


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, tied=False), replace(SMALL, family="qwen3")])
def test_parameters_of_our_decoder(config: DecoderConfig) -> None:
    assert decoder_shape(config).parameters == sum(p.numel() for p in Decoder(config, device="meta").parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    [("Qwen2.5-1.5B-Instruct", 1_543_714_304), ("Qwen2.5-7B-Instruct", 7_615_616_512), ("Qwen3-32B", 32_762_123_264)],
)
def test_parameters_of_the_published_models(name: str, count: int) -> None:
    """As transformers counts the same architecture, and as the models' pages say."""
    assert decoder_shape(PUBLISHED[name]).parameters == transformers_count(PUBLISHED[name]) == count


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_of_a_preset_with_a_full_vocabulary(name: str) -> None:
    made = PRESETS[name]
    found = preset_shape(made)
    config = DecoderConfig(
        "qwen3",
        made.vocab_size,
        made.hidden_size,
        made.layers,
        made.heads,
        made.kv_heads,
        made.head_dim,
        made.ffn,
        made.tied,
    )
    assert found.shape.parameters == sum(p.numel() for p in Decoder(config, device="meta").parameters())
    fewer = decoder_shape(replace(config, vocab_size=made.vocab_size - 7))
    assert found.shape.parameters - fewer.parameters == 7 * found.per_word


def test_other_architectures_are_counted_by_transformers(tmp_path: Path) -> None:
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, head_dim=4
    )
    config.save_pretrained(tmp_path)
    shape = folder_shape(tmp_path)
    layer = 2 * 8 + 4 * 8 * 8 + 3 * 8 * 12
    assert (shape.parameters, shape.outside) == (2 * layer + 2 * 50 * 8 + 8, 2 * 50 * 8)
    assert (shape.kv_heads, shape.ffn, shape.vocab_size) == (2, 12, 50)


def test_a_model_is_known_by_its_folder_or_by_its_published_name(tmp_path: Path) -> None:
    found = shape_of(ModelConfig(path=str(tmp_path / "Qwen3-32B")))
    assert found is not None and found.shape.layers == 64 and "published" in found.source
    assert shape_of(ModelConfig(path=str(tmp_path / "mine"))) is None
    assert "nothing is known" in model_lines(quick(f"model.path={tmp_path / 'mine'}"))[0]


SHAPE = Shape(1000, 200, 10, hidden_size=4, layers=8, heads=2, kv_heads=1, head_dim=2, ffn=6, max_positions=64)


def test_pieces_by_hand() -> None:
    assert SHAPE.per_layer == 100
    assert memory.layer_activations(SHAPE, 4) == 4 * (4 * 4 + 3 * 4 + 3 * 2 + 4 * 6) == 4 * 58
    assert memory.layer_activations(SHAPE, 2) == 4 * 16 + 2 * 42, "norms in single precision"
    assert memory.layer_activations(replace(SHAPE, head_norms=True), 2) == 4 * (16 + 4 + 2) + 2 * 42
    assert memory.activation_bytes(SHAPE, 5, 2, checkpointed=False) == 5 * 8 * (4 * 16 + 2 * 42)
    assert memory.activation_bytes(SHAPE, 5, 2, checkpointed=True) == 5 * (2 * 8 * 4 + 4 * 16 + 2 * 42)
    assert memory.cache_bytes(SHAPE, 5, 2) == 2 * 5 * 2 * 8 * 2
    assert memory.head_bytes(SHAPE, 5, 1000) == 4 * 4 * 5 * 10
    assert memory.head_bytes(SHAPE, 5, 30) == 4 * 4 * 30, "in chunks"
    assert memory.head_bytes(SHAPE, 5, 3) == 4 * 4 * 10, "of a token at least"
    assert memory.gathered_bytes(SHAPE, 2) == (200 + 2 * 100) * 2 + (200 + 100) * 4
    # qkv 4 → 8, out 4 → 4, gate and up 4 → 12, down 6 → 4
    assert memory.adapter_parameters(SHAPE, 3, ("qkv", "out", "gate_up", "down")) == 3 * 8 * (12 + 8 + 16 + 10)
    assert memory.adapter_parameters(SHAPE, 3, ("qkv",)) == 3 * 8 * 12


@pytest.mark.parametrize("kind", ["qwen3", "llama-tied"])
@pytest.mark.parametrize("targets", ["qkv,down", "q_proj,down_proj", "layers.1.self_attn.o_proj", "blocks.1.gate_up"])
def test_adapters_are_counted_under_whatever_name_they_are_asked_for(kind: str, targets: str, tmp_path: Path) -> None:
    asked = ScaleConfig(lora_rank=3, lora_targets=tuple(targets.split(",")))
    model = made(kind)
    model.save(tmp_path)
    try:
        adapt(model, asked, 0)
    except LoraError:
        with pytest.raises(LoraError):
            memory.adapter_parameters(folder_shape(tmp_path), 3, asked.lora_targets)
        return
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert memory.adapter_parameters(folder_shape(tmp_path), 3, asked.lora_targets) == trained > 0


def config(**changes: object) -> TrainConfig:
    base = TrainConfig(
        rollout=RolloutConfig(concurrency=3),
        optimiser=OptimiserConfig(micro_tokens=100),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_an_estimate_by_hand() -> None:
    guess = estimate(SHAPE, config(), head_logits=10_000)
    assert guess.training == {
        "weights": 4000,
        "gradients": 4000,
        "Adam's moments": 8000,
        "activations": 100 * 4 * 8 * 58,
        "logits": 4 * 4 * 100 * 10,
    }
    assert guess.engine == {"engine's keys and values": memory.cache_bytes(SHAPE, 3 * 64, 4)}
    assert guess.total == sum(guess.training.values()) + sum(guess.engine.values())


def test_processes_divide_what_is_sharded_and_nothing_else() -> None:
    halves = ScaleConfig(processes=4, shard=True, precision="bfloat16", checkpoint_activations=True)
    guess = estimate(SHAPE, config(scale=halves), head_logits=10_000).training
    assert (guess["weights"], guess["gradients"], guess["Adam's moments"]) == (1000, 1000, 2000)
    assert guess["activations"] == 100 * (2 * 8 * 4 + 4 * 16 + 2 * 42)
    assert guess["whole layers at work"] == memory.gathered_bytes(SHAPE, 2) and guess["whole copy"] == 2000
    whole = estimate(SHAPE, config(scale=replace(halves, shard=False, precision="float32")), head_logits=1).training
    assert (whole["weights"], whole["Adam's moments"]) == (4000, 8000) and "whole copy" not in whole


def test_adapters_leave_only_their_own_gradients_and_moments() -> None:
    guess = estimate(SHAPE, config(scale=ScaleConfig(lora_rank=2, lora_targets=("qkv",))), head_logits=1).training
    adapters = 2 * 8 * 12
    assert guess["weights"] == 4 * (1000 + adapters)
    assert (guess["gradients"], guess["Adam's moments"]) == (4 * adapters, 8 * adapters)


def test_a_reference_and_a_critic_cost_their_share() -> None:
    settings = ["algorithm.kl_coefficient=0.01", "algorithm.estimator=ppo"]
    guess = estimate(SHAPE, override(config(), settings), head_logits=1).training
    assert guess["reference"] == 4000
    assert guess["critic"] == 16 * (2 * 4 * 4 + 8 + 8 + 1)
    adapted = override(config(), [*settings, "scale.lora_rank=2"])
    assert "reference" not in estimate(SHAPE, adapted, head_logits=1).training, "the model without its adapters is it"
    for stage in ("warmstart.steps=1", "warmstart.explore_steps=1"):  # which trains the adapters
        assert estimate(SHAPE, override(adapted, [stage]), head_logits=1).training["reference"] == 4000


@pytest.mark.parametrize("stage", ["warmstart.steps=0", "warmstart.steps=2"])
def test_a_second_model_is_counted_where_one_is_loaded(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    frozen = Weights.frozen
    monkeypatch.setattr(Weights, "frozen", lambda self, folder: loaded.append(folder) or frozen(self, folder))
    asked = quick("scale.lora_rank=2", "algorithm.kl_coefficient=0.01", stage)
    with new_run(asked, tmp_path / "run", quiet()) as session:
        assert session.reference is not None
        counted = estimate(folder_shape(session.source), asked, head_logits=1).training
    assert ("reference" in counted) == bool(loaded) == (stage == "warmstart.steps=2")


def test_a_pass_without_a_bound_holds_the_largest_step_there_can_be() -> None:
    """599 kept responses at 400 a step are one step (1.4975 rounds to 1), 600 are two."""
    batch = Batch(*(torch.arange(n) for n in (599, 600, 599, 599, 599, 599, 599)))
    for kept, sizes in ((599, [599]), (598, [598])):
        keep = torch.arange(599) < kept
        steps = minibatches(batch, keep, responses=400, generator=torch.Generator())
        assert [sum(map(len, step)) for step in steps] == sizes
    free = replace(config(), optimiser=OptimiserConfig(minibatch_responses=400))
    rollout = free.rollout
    assert estimate(SHAPE, free, head_logits=1).tokens == 600 * 64
    short = replace(free, rollout=replace(rollout, tasks=2, group_size=3, max_steps=5))
    assert estimate(SHAPE, short, head_logits=1).tokens == 2 * 3 * 5 * 64, "no more responses than are played"
    whole = replace(free, rollout=replace(rollout, tasks=2, group_size=3, whole_episodes=True))
    assert estimate(SHAPE, whole, head_logits=1).tokens == 2 * 3 * 64


def test_an_engine_of_its_own_has_a_copy_and_a_cache() -> None:
    options = {"max_model_len": 50, "tensor_parallel": 2}
    engine = RolloutConfig(engine="vllm", concurrency=3, engine_options=options)
    found = estimate(SHAPE, config(rollout=engine, device="cuda"), head_logits=1).engine
    one_head = memory.cache_bytes(SHAPE, 150, 2)  # of which either device has a copy
    assert found == {"engine's weights": 1000, "engine's keys and values": one_head}
    wider = estimate(replace(SHAPE, kv_heads=4), config(rollout=engine, device="cuda"), head_logits=1).engine
    assert wider["engine's keys and values"] == 2 * one_head
    fixed = replace(engine, engine_options={"kv_cache_gib": 0.5})
    assert estimate(SHAPE, config(rollout=fixed), head_logits=1).engine["engine's keys and values"] == 2**29


def test_a_sleeping_engine_and_an_update_are_not_there_at_once() -> None:
    rollout = RolloutConfig(engine="vllm", engine_options={"kv_cache_gib": 1.0, "sleep": True})
    guess = estimate(SHAPE, config(rollout=rollout), head_logits=1)
    assert guess.total == sum(guess.engine.values()) + 4000 + 8000
    small = replace(rollout, engine_options={"kv_cache_gib": 1e-6, "sleep": True})
    guess = estimate(SHAPE, config(rollout=small), head_logits=1)
    assert guess.total == sum(guess.training.values())


def test_weights_gradients_and_moments_are_what_a_real_run_holds(tmp_path: Path) -> None:
    gradients: list[int] = []

    def count(optimiser: torch.optim.Optimizer, *_: object) -> None:
        held = [p.grad for group in optimiser.param_groups for p in group["params"]]
        gradients.append(sum(grad.nbytes for grad in held if grad is not None))

    hook = register_optimizer_step_pre_hook(count)
    try:
        with new_run(quick(), tmp_path / "run", quiet()) as session:
            train(session)
            held = list(session.model.parameters())
            moments = [t for state in session.learner.optimiser.state.values() for t in state.values() if t.dim()]
    finally:
        hook.remove()
    guess = estimate(folder_shape(tmp_path / "run" / "init"), quick(), head_logits=1).training
    assert guess["weights"] == sum(p.nbytes for p in held)
    assert guess["gradients"] == max(gradients)
    assert guess["Adam's moments"] == sum(t.nbytes for t in moments)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_what_autograd_keeps(family: str, kv_heads: int, dtype: torch.dtype) -> None:
    """To a quarter on a CPU, where sequences are of one length: what attention copies there is left out."""
    made = DecoderConfig(family, 64, 128, 6, 4, kv_heads, 32, 352)  # type: ignore[arg-type]
    model = Decoder(made).init_weights(0).to(dtype)
    model.reset_buffers()
    others = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    tokens = torch.randint(0, 64, (300,), generator=torch.Generator().manual_seed(0))  # no shared beginnings
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model.hidden(tokens, torch.tensor([0, 150, 300], dtype=torch.int32))
    measured = sum(storage.nbytes() for place, storage in kept.items() if place not in others)
    guess = memory.activation_bytes(decoder_shape(made), 300, dtype.itemsize, checkpointed=False)
    assert guess < measured < 1.25 * guess


def test_lines_say_how_many_words_a_preset_may_have() -> None:
    lines = model_lines(load_recipe("toy"))
    assert "20,704 parameters and 64 for each word" in lines[0]
    assert "optimiser.micro_tokens would bound them" in lines[1]
    bounded = model_lines(override(load_recipe("toy"), ["optimiser.micro_tokens=2048"]))
    assert "2,048 tokens a pass" in bounded[1] and "bound" not in bounded[1]
