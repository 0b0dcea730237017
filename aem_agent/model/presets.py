"""Small models made from nothing in seconds: a tokenizer trained on given texts and seeded random weights.

`tiny` learns ALFWorld-like games on two CPU cores within minutes; `small` reads any text. Both are written as ordinary
transformers folders.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from aem_agent.model.config import DecoderConfig
from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import ModelError
from aem_agent.model.tokenizers import Tokenizer, TokenizerKind, train_tokenizer


class UnknownPresetError(ModelError):
    """No preset of that name."""


@dataclass(frozen=True, slots=True)
class PresetConfig:
    """What a made model consists of. The architecture is Qwen3's: for Qwen2, transformers 5 insists on a tokenizer."""

    tokenizer: TokenizerKind = "word"
    """Word level with numbers merged ("cabinet 2") or apart, or byte-level BPE."""
    vocab_size: int = 4096
    """Upper bound of token ids; word level takes as many as the texts have."""
    hidden_size: int = 64
    """Width d."""
    layers: int = 3
    """Number of blocks."""
    heads: int = 4
    """Query heads."""
    kv_heads: int = 4
    """Key and value heads."""
    head_dim: int = 16
    """Width of one head."""
    ffn: int = 144
    """Inner width of the feed-forward."""
    tied: bool = False
    """The head is the embedding."""
    max_positions: int = 1024
    """Longest sequence in tokens."""
    init_std: float = 0.02
    """Standard deviation of the initial weights."""
    related: bool = False
    """Start with names related (`relate_names`): to copy a name, or to tell what is of a kind, is then learnt once and
    for all."""

    def decoder(self, tokenizer: Tokenizer) -> DecoderConfig:
        """The decoder's shape for a trained tokenizer."""
        return DecoderConfig(
            family="qwen3",
            vocab_size=tokenizer.vocab_size,
            hidden_size=self.hidden_size,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            ffn=self.ffn,
            tied=self.tied,
            max_positions=self.max_positions,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )


PRESETS: dict[str, PresetConfig] = {
    "tiny": PresetConfig(init_std=0.05, related=True),
    "small": PresetConfig(
        tokenizer="byte-bpe",
        vocab_size=2048,
        hidden_size=256,
        layers=4,
        heads=4,
        kv_heads=2,
        head_dim=64,
        ffn=768,
        max_positions=4096,
    ),
}


def preset(name: str, **changes: Any) -> PresetConfig:
    """A named preset, fields changed as given; raises `UnknownPresetError`, `TypeError` for a misspelt field."""
    if name not in PRESETS:
        raise UnknownPresetError(f"unknown preset {name!r}; known: {', '.join(sorted(PRESETS))}")
    return replace(PRESETS[name], **changes)


def make_preset(name: str | PresetConfig, out_dir: str | Path, seed: int, texts: Iterable[str]) -> Path:
    """Make a model folder: config.json, model.safetensors, tokenizer.json, tokenizer_config.json.

    `texts` are environment texts and prompt templates; the same texts and seed give the same bytes.
    """
    config = preset(name) if isinstance(name, str) else name
    tokenizer = train_tokenizer(config.tokenizer, texts, config.vocab_size)
    model = Decoder(config.decoder(tokenizer)).init_weights(seed, config.init_std)
    if config.related:
        relate_names(model, tokenizer, seed, config.init_std)
    folder = Path(out_dir)
    model.save(folder)
    tokenizer.save(folder, config.max_positions)
    return folder


@torch.no_grad()
def relate_names(model: Decoder, tokenizer: Tokenizer, seed: int, std: float) -> None:
    """Start embeddings so that names made of a word and a number share both parts, and the head as the embedding.

        e("mug 2") = (e("mug") + n(2)) / √2        e(word), n(number) ~ N(0, std²)

    Merged names are one token each, and random ones would have nothing in common: that "mug 2" is a mug, or how to
    repeat it, would have to be learnt for each.
    """
    embedding, generator = model.embed.weight, torch.Generator().manual_seed(seed + 1)
    vocabulary: dict[str, int] = tokenizer.inner.get_vocab(with_added_tokens=True)
    parts: dict[str, torch.Tensor] = {}
    for token, row in sorted(vocabulary.items(), key=lambda item: item[1]):
        if found := _NAME.fullmatch(token):
            for part in found.groups():
                if part not in parts:
                    drawn = torch.randn(embedding.shape[1], generator=generator) * std
                    parts[part] = embedding[vocabulary[part]] if part in vocabulary else drawn
            embedding[row] = (parts[found[1]] + parts[found[2]]) * 0.5**0.5
    if model.lm_head is not None:
        model.lm_head.weight.copy_(embedding)


_NAME = re.compile(r"(\D+) (\d+)")
