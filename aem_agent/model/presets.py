"""Small models made from nothing in seconds: a tokenizer trained on given texts and seeded random weights.

`tiny` learns ALFWorld-like games on two CPU cores within minutes; `small` reads any text. Both are written as ordinary
transformers folders.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
    "tiny": PresetConfig(init_std=0.05),
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
    folder = Path(out_dir)
    model.save(folder)
    tokenizer.save(folder, config.max_positions)
    return folder
