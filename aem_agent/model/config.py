"""Shape of the decoder, and its config.json."""

from dataclasses import dataclass
from typing import Any, Literal

from aem_agent.model.interface import ArchitectureError, ModelFolderError

Family = Literal["qwen2", "qwen3"]


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Shape of a decoder."""

    family: Family
    """Qwen2 (biases on q, k, v) or Qwen3 (norms on q and k)."""
    vocab_size: int
    """Rows of the embedding."""
    hidden_size: int
    """Width d of the residual stream."""
    layers: int
    """Number of blocks."""
    heads: int
    """Query heads per block."""
    kv_heads: int
    """Key and value heads per block; divides `heads`."""
    head_dim: int
    """Width of one head, even."""
    ffn: int
    """Inner width of the feed-forward."""
    tied: bool = False
    """The head is the embedding."""
    max_positions: int = 2048
    """Longest sequence in tokens."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    norm_eps: float = 1e-6
    """Added to the mean square in RMS norms."""
    eos_token_id: int | None = None
    """Written to config.json for other users of the folder."""
    pad_token_id: int | None = None
    """Written to config.json for other users of the folder."""

    def __post_init__(self) -> None:
        sizes = (self.vocab_size, self.hidden_size, self.layers, self.heads, self.kv_heads, self.head_dim, self.ffn)
        if min(*sizes, self.max_positions) < 1 or self.heads % self.kv_heads or self.head_dim % 2:
            raise ArchitectureError(f"sizes must be positive, head_dim even, kv_heads a divisor of heads: {self}")

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "DecoderConfig | None":
        """From a transformers config.json; None if it is not a plain Qwen2 or Qwen3 (other type, scaled rotary
        positions, sliding windows, biases elsewhere). Raises `ModelFolderError` for missing or malformed entries."""
        family = raw.get("model_type")
        rope = {**(raw.get("rope_parameters") or {}), **(raw.get("rope_scaling") or {})}
        plain = (
            family in ("qwen2", "qwen3")
            and rope.get("rope_type", rope.get("type", "default")) == "default"
            and not raw.get("use_sliding_window")
            and set(raw.get("layer_types") or ["full_attention"]) == {"full_attention"}
            and raw.get("hidden_act", "silu") == "silu"
            and not raw.get("attention_bias")
            and not raw.get("quantization_config")
        )
        if not plain:
            return None
        try:
            hidden, heads = int(raw["hidden_size"]), int(raw["num_attention_heads"])
            eos: Any = raw.get("eos_token_id")
            return cls(
                family="qwen3" if family == "qwen3" else "qwen2",
                vocab_size=int(raw["vocab_size"]),
                hidden_size=hidden,
                layers=int(raw["num_hidden_layers"]),
                heads=heads,
                kv_heads=int(raw.get("num_key_value_heads") or heads),
                head_dim=int(raw.get("head_dim") or (128 if family == "qwen3" else hidden // heads)),
                ffn=int(raw["intermediate_size"]),
                tied=bool(raw.get("tie_word_embeddings", False)),
                max_positions=int(raw.get("max_position_embeddings", 32768)),
                rope_theta=float(raw.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
                norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
                eos_token_id=eos[0] if isinstance(eos, list) and eos else eos,
                pad_token_id=raw.get("pad_token_id"),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ModelFolderError(f"config.json of a {family} model is malformed: {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        """A config.json that transformers 4 and 5 read."""
        return {
            "architectures": [f"Qwen{self.family[-1]}ForCausalLM"],
            "model_type": self.family,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.ffn,
            "hidden_act": "silu",
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.max_positions,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rms_norm_eps": self.norm_eps,
            "attention_bias": False,
            "use_sliding_window": False,
            "bos_token_id": None,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.pad_token_id,
            "dtype": "float32",
        }
