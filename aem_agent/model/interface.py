"""What sampler and trainer ask of a language model, and how one is loaded from a folder.

Our decoder (`decoder.py`) and any transformers causal LM (`hf.py`) stand behind the same interface, so that what is
sampled is what is trained. Sequences are packed: all tokens of a batch one after another, with cumulative lengths.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from aem_agent.types import AgentError, TokenizerLike

if TYPE_CHECKING:
    from aem_agent.model.decoder import Decoder


class ModelError(AgentError):
    """Base of all errors about models, their folders and weights."""


class ModelFolderError(ModelError):
    """The folder is missing, or its config.json is missing or unreadable."""


class TokenizerMissingError(ModelError):
    """The folder holds no usable tokenizer."""


class WeightsMissingError(ModelError):
    """The folder holds no safetensors weights (pickled ones are never read)."""


class WeightsMismatchError(ModelError):
    """Weights do not fit the architecture: names or shapes differ, or a file is cut off."""


class ArchitectureError(ModelError):
    """config.json asks for something this code cannot run."""


class Cache(Protocol):
    """Keys and values of a running batch; rows leave as they finish."""

    @property
    def joins(self) -> bool:
        """Whether rows can be added while others run."""
        ...

    def drop(self, rows: Sequence[int]) -> list[int]:
        """Remove rows; returns, for each remaining place, the former row that now lies there."""
        ...


class LanguageModel(Protocol):
    """A causal language model over packed sequences; an `nn.Module`.

    n sequences with T tokens in all: `tokens` is Long[T]; `cu_seqlens` is Int[n + 1], starts with 0 and ends with T.
    """

    hidden_size: int
    vocab_size: int
    max_positions: int
    """Longest sequence in tokens."""

    @property
    def device(self) -> torch.device: ...

    def hidden(self, tokens: Tensor, cu_seqlens: Tensor, at: Tensor | None = None) -> Tensor:
        """Final-norm hidden states Float[T, d], or those of the tokens `at` (Long[P]) as Float[P, d]; differentiable.

        Asking only for what is needed (response positions) spares most of the last layer.
        """
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """Logits Float[n, V] of hidden states Float[n, d]; differentiable."""
        ...

    def prefill(self, tokens: Tensor, cu_seqlens: Tensor, new_tokens: int) -> tuple[Tensor, Cache]:
        """Hidden states Float[n, d] of each sequence's last token, and a cache with room for `new_tokens` more."""
        ...

    def step(self, tokens: Tensor, cache: Any) -> Tensor:
        """Append one token per row (Long[n]); returns its hidden states Float[n, d]."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]: ...

    def train(self, mode: bool = True) -> Self: ...

    def eval(self) -> Self: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any: ...

    def export(self) -> Iterable[tuple[str, Tensor]]:
        """Weights under transformers' names, one at a time (views where possible)."""
        ...

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors as transformers reads them."""
        ...


@runtime_checkable
class BareHead(Protocol):
    """A model whose head may be a weight and nothing else, so that its logits need not be made all at once."""

    @property
    def head_weight(self) -> Tensor | None:
        """Float[V, d] if head(hidden) is hidden @ weightᵀ; None where it does more (biases, adapters)."""
        ...


@runtime_checkable
class Continuing(Protocol):
    """A model whose sequences join a running batch, and take up what an earlier cache of it held."""

    def new_cache(self) -> Any:
        """An empty `KVCache` that `extend` fills."""
        ...

    def extend(
        self, kept: Sequence[Tensor], tokens: Tensor, cu_seqlens: Tensor, new_tokens: Sequence[int], cache: Any
    ) -> Tensor:
        """Add n sequences behind the rows of a cache, with room for `new_tokens` more each; returns the hidden states
        Float[n, d] of their last tokens.

        The first `len(kept)` sequences continue `kept`, Float[2 · layers, KV, base, hd] each, and `tokens` holds what
        is new of them. Raises `ContextOverflowError`.
        """
        ...


def read_config(folder: str | Path) -> dict[str, Any]:
    """config.json of a model folder; raises `ModelFolderError`."""
    path = Path(folder) / "config.json"
    if not path.parent.is_dir():
        raise ModelFolderError(f"no model folder {str(folder)!r}; give a local folder with config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFolderError(f"{str(folder)!r} has no config.json: not a model folder") from None
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise ModelFolderError(f"{path} is not a JSON object")
    return config


def load_model(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """The model of a local folder in transformers format, in evaluation mode.

    Plain Qwen2 and Qwen3 become our decoder, all else goes through transformers (no remote code, no network,
    safetensors only). Raises subclasses of `ModelError`.
    """
    model = decoder_outline(folder)
    if model is not None:
        from aem_agent.model.weights import load_weights

        model = model.to(dtype).to_empty(device=device)
        load_weights(model, Path(folder))
        return model
    from aem_agent.model.hf import load_transformers_model

    return load_transformers_model(Path(folder), read_config(folder), device=torch.device(device), dtype=dtype)


def decoder_outline(folder: str | Path) -> "Decoder | None":
    """Our decoder as a folder's config.json has it, on the device `meta`: shapes without weights, which
    `weights.load_weights` fills in once it was put somewhere. None where the architecture is not the decoder's.

    Raises subclasses of `ModelError`.
    """
    from aem_agent.model.config import DecoderConfig

    config = DecoderConfig.from_json(read_config(folder))
    if config is None:
        return None
    from aem_agent.model.decoder import Decoder

    return Decoder(config, device="meta").eval()


def load_tokenizer(folder: str | Path) -> TokenizerLike:
    """The tokenizer of a local folder; raises `TokenizerMissingError`, `ModelFolderError`."""
    from aem_agent.model.tokenizers import Tokenizer

    return Tokenizer.load(Path(folder))
