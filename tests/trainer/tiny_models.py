"""Small models behind the training interface, with weights that matter everywhere, and episodes of random tokens."""

from typing import Any, Literal, cast

import torch
import transformers

from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from aem_agent.model.hf import TransformersModel
from aem_agent.model.interface import LanguageModel
from aem_agent.types import Episode, Response, RolloutGroup, TaskRef, Turn
from trainer.config import ScaleConfig
from trainer.lora import adapt

VOCABULARY = 40
LORA = ScaleConfig(lora_rank=3, lora_alpha=6.0)
KINDS = ("qwen2", "qwen2-tied", "qwen3", "qwen3-tied", "llama", "llama-tied")


def decoder(family: Literal["qwen2", "qwen3"] = "qwen3", *, tied: bool = False, std: float = 0.3) -> Decoder:
    config = DecoderConfig(
        family=family,
        vocab_size=VOCABULARY,
        hidden_size=32,
        layers=3,
        heads=4,
        kv_heads=2,
        head_dim=16 if family == "qwen3" else 8,
        ffn=48,
        tied=tied,
        max_positions=128,
    )
    return cast(Decoder, _uneven(Decoder(config).init_weights(0, std)))


def llama(*, tied: bool = False) -> TransformersModel:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        tie_word_embeddings=tied,
        attention_dropout=0.5,  # nothing may be dropped: models stay in evaluation mode
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cast(TransformersModel, _uneven(TransformersModel(transformers.LlamaForCausalLM(config))))


def made(kind: str) -> LanguageModel:
    """One of `KINDS`."""
    if kind.startswith("llama"):
        return cast(LanguageModel, llama(tied=kind.endswith("tied")))
    family: Any = kind.split("-")[0]
    return decoder(family, tied=kind.endswith("tied"))


def adapted(model: LanguageModel, scale: ScaleConfig = LORA) -> LanguageModel:
    """With adapters that matter, its own weights frozen."""
    adapt(model, scale, 7)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return model


def _uneven(model: torch.nn.Module) -> torch.nn.Module:
    """Norms and biases must matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.copy_(1.2 + 0.3 * torch.randn(p.shape, generator=generator))
    return model.eval()


def episodes(
    *, tasks: int = 2, group_size: int = 3, seed: int = 0, shift: int = 0, turns: int = 3
) -> list[RolloutGroup]:
    """Groups of episodes whose prompts are the whole history; their tokens depend on `seed`.

    Each task's episodes begin alike. `shift` moves the observations between responses to other tokens.
    """
    generator = torch.Generator().manual_seed(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        count = int(torch.randint(low, high + 1, (1,), generator=generator))
        return tuple(torch.randint(1, VOCABULARY, (count,), generator=generator).tolist())

    groups = []
    for task in range(tasks):
        start, played = tokens(5, 9), []
        for episode in range(group_size):
            history, said = start, []
            for number in range(int(torch.randint(1, turns + 1, (1,), generator=generator))):
                answer = tokens(1, 4)
                response = Response("", answer, finish_reason="stop", policy_versions=((0, 0),))
                said.append(Turn("", response, "", history, info={"number": number}))
                seen = tuple((t + shift) % (VOCABULARY - 1) + 1 for t in tokens(2, 5))
                history = (*history, *answer, *seen)
            won = episode % 2 == 0
            end = {"terminated": won, "truncated": not won, "return_": float(won), "won": won}
            played.append(Episode("e", f"t{task}", "", "train", episode, 0, tuple(said), **end))
        groups.append(RolloutGroup(TaskRef("e", f"t{task}", "train"), tuple(played)))
    return groups
