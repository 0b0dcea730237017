"""Which model a recipe trains, by its sizes: read from its folder, made by a preset, or published under its name.

Published sizes are those of the models' own config.json, so that a recipe can be looked at where its model is not.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from aem_agent.model.config import DecoderConfig
from aem_agent.model.interface import read_config
from aem_agent.model.presets import PresetConfig, preset
from trainer.config import ModelConfig
from trainer.memory import Shape

PUBLISHED: Mapping[str, DecoderConfig] = MappingProxyType(
    {
        "Qwen2.5-1.5B-Instruct": DecoderConfig(
            "qwen2", 151_936, 1536, 28, 12, 2, 128, 8960, tied=True, max_positions=32_768, rope_theta=1e6
        ),
        "Qwen2.5-7B-Instruct": DecoderConfig(
            "qwen2", 152_064, 3584, 28, 28, 4, 128, 18_944, max_positions=32_768, rope_theta=1e6
        ),
        "Qwen3-32B": DecoderConfig(
            "qwen3", 151_936, 5120, 64, 64, 8, 128, 25_600, max_positions=40_960, rope_theta=1e6
        ),
    }
)
"""Names of model folders to the architectures published under them."""


class Found(NamedTuple):
    """A model's sizes, and where they are from."""

    shape: Shape
    source: str
    """In words."""
    per_word: int = 0
    """Weights of each word of the vocabulary where a preset's tokenizer is yet to be made: its size is the largest."""


def decoder_shape(config: DecoderConfig) -> Shape:
    """The shape of our decoder, which is that of Qwen2 and Qwen3: weights are counted, none are made."""
    d, hd, f = config.hidden_size, config.head_dim, config.ffn
    query, key = config.heads * hd, config.kv_heads * hd
    qkv = query + 2 * key
    layer = 2 * d + d * qkv + query * d + 3 * d * f
    layer += qkv if config.family == "qwen2" else 2 * hd  # biases, or norms of queries and keys
    outside = config.vocab_size * d * (1 if config.tied else 2) + d
    return Shape(
        parameters=outside + config.layers * layer,
        outside=outside,
        vocab_size=config.vocab_size,
        hidden_size=d,
        layers=config.layers,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=hd,
        ffn=f,
        max_positions=config.max_positions,
        head_norms=config.family == "qwen3",
    )


def preset_shape(made: PresetConfig) -> Found:
    """A preset with as many words as it may have."""
    config = DecoderConfig(
        family="qwen3",
        vocab_size=made.vocab_size,
        hidden_size=made.hidden_size,
        layers=made.layers,
        heads=made.heads,
        kv_heads=made.kv_heads,
        head_dim=made.head_dim,
        ffn=made.ffn,
        tied=made.tied,
        max_positions=made.max_positions,
    )
    return Found(decoder_shape(config), "a preset", made.hidden_size * (1 if made.tied else 2))


def folder_shape(folder: Path) -> Shape:
    """The shape of a model folder in transformers format, weights not read.

    Raises:
        ModelFolderError: no config.json, or a malformed one.
        ArchitectureError: transformers does not know the architecture.
    """
    raw = read_config(folder)
    config = DecoderConfig.from_json(raw)
    return decoder_shape(config) if config is not None else _transformers_shape(folder)


def _transformers_shape(folder: Path) -> Shape:
    """Any causal LM: transformers builds it without memory, and its weights are counted."""
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModelForCausalLM

    from aem_agent.model.interface import ArchitectureError

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            lm: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise ArchitectureError(f"transformers cannot make the model of {str(folder)!r}: {error}") from error
    text = config.get_text_config()
    parts = (lm.get_input_embeddings().weight, lm.get_output_embeddings().weight)
    linear = [(f"lm.{n}", m.in_features, m.out_features) for n, m in lm.named_modules() if isinstance(m, nn.Linear)]
    heads = int(text.num_attention_heads)
    hidden = int(text.hidden_size)
    return Shape(
        parameters=sum(p.numel() for p in lm.parameters()),
        outside=sum(p.numel() for p in {id(part): part for part in parts}.values()),
        vocab_size=int(parts[1].shape[0]),
        hidden_size=hidden,
        layers=int(text.num_hidden_layers),
        heads=heads,
        kv_heads=int(getattr(text, "num_key_value_heads", 0) or heads),
        head_dim=int(getattr(text, "head_dim", 0) or hidden // heads),
        ffn=int(getattr(text, "intermediate_size", 0) or 4 * hidden),
        max_positions=int(getattr(text, "max_position_embeddings", 0) or 2**31),
        other_linear=tuple(linear),
    )


def shape_of(config: ModelConfig) -> Found | None:
    """The sizes of a recipe's model; None where its folder is not there and its name is not among `PUBLISHED`.

    Raises:
        ModelError: as `folder_shape`, or no such preset.
    """
    if config.path is None:
        return preset_shape(preset(config.preset, **config.preset_options))
    if (Path(config.path) / "config.json").is_file():
        return Found(folder_shape(Path(config.path)), f"config.json of {config.path}")
    name = Path(config.path).name
    return Found(decoder_shape(PUBLISHED[name]), f"as published of {name}") if name in PUBLISHED else None
