"""Any causal LM of transformers behind `interface.LanguageModel`: what our decoder does not cover.

transformers' models take padded batches, so padding is computed here; the decoder computes none.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aem_agent.model.interface import ArchitectureError, LanguageModel, WeightsMismatchError
from aem_agent.model.lora_layers import BASE, Merged, adapted_layers
from aem_agent.model.packing import Packing

PROBE_TOLERANCE = 1e-3
"""Largest difference between the model's own logits and head(hidden(…)) on a probe, relative to the largest logit."""


class TransformersCache:
    """transformers' growing cache over left-padded rows."""

    def __init__(self, cache: Any, mask: Tensor) -> None:
        self.cache = cache
        self.mask = mask
        """Long[n, width]: 1 where there is a token."""

    @property
    def joins(self) -> bool:
        """Only plain layers are padded and put together: windows, chunks and states of other kinds are not."""
        from transformers.cache_utils import DynamicLayer

        return all(type(layer) is DynamicLayer for layer in self.cache.layers)

    def drop(self, rows: Sequence[int]) -> list[int]:
        """Remove rows; the others keep their order."""
        gone = set(rows)
        order = [r for r in range(self.mask.shape[0]) if r not in gone]
        index = torch.tensor(order, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask = self.mask[index]
        return order

    def join(self, other: "TransformersCache") -> None:
        """Add another cache's rows behind these, both without columns in which no row has a token."""
        starts = [int(c.mask.any(0).int().argmax()) for c in (self, other)]
        width = max(c.mask.shape[1] - start for c, start in zip((self, other), starts, strict=True))

        def fit(x: Tensor, start: int) -> Tensor:
            """[…, columns, hd] from `start` on, padded on the left."""
            x = x[..., start:, :]
            return F.pad(x, (0, 0, width - x.shape[-2], 0))

        self.mask = torch.cat(
            [fit(c.mask[..., None], start)[..., 0] for c, start in zip((self, other), starts, strict=True)]
        )
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            for name in ("keys", "values"):
                pair = (getattr(mine, name), getattr(theirs, name))
                setattr(mine, name, torch.cat([fit(x, start) for x, start in zip(pair, starts, strict=True)]))


class TransformersModel(nn.Module):
    """Wraps a `PreTrainedModel` with a language-modelling head."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm
        text = lm.config.get_text_config()
        self.hidden_size = int(text.hidden_size)
        self.vocab_size = int(lm.get_output_embeddings().weight.shape[0])
        self.max_positions = int(getattr(text, "max_position_embeddings", 0) or 2**31)

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self.lm.device)

    def hidden(self, tokens: Tensor, cu_seqlens: Tensor, at: Tensor | None = None) -> Tensor:
        """Final-norm hidden states Float[T, d] of packed sequences (of tokens `at`), through a right-padded batch."""
        packing = Packing.of(tokens, cu_seqlens, self.max_positions)
        ids, mask = (tokens.new_zeros(packing.n, packing.longest) for _ in range(2))
        ids[packing.rows, packing.columns] = tokens
        mask[packing.rows, packing.columns] = 1
        states = self.lm.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        rows, columns = (packing.rows, packing.columns) if at is None else (packing.rows[at], packing.columns[at])
        return cast(Tensor, states[rows, columns])

    def head(self, hidden: Tensor) -> Tensor:
        """Logits Float[n, V]."""
        return cast(Tensor, self.lm.get_output_embeddings()(hidden))

    @property
    def head_weight(self) -> Tensor | None:
        """See `interface.BareHead`; what comes after the head was looked for when the model was loaded."""
        head = self.lm.get_output_embeddings()
        return head.weight if isinstance(head, nn.Linear) and head.bias is None else None

    @torch.no_grad()
    def prefill(self, tokens: Tensor, cu_seqlens: Tensor, new_tokens: int) -> tuple[Tensor, TransformersCache]:
        """Hidden states Float[n, d] of the last tokens, and a cache, which grows; raises `ContextOverflowError`."""
        packing = Packing.of(tokens, cu_seqlens, self.max_positions)
        columns = packing.columns + (packing.longest - packing.lengths)[packing.rows]
        ids, mask = (tokens.new_zeros(packing.n, packing.longest) for _ in range(2))
        ids[packing.rows, columns] = tokens
        mask[packing.rows, columns] = 1
        return self._advance(ids, TransformersCache(None, mask))

    @torch.no_grad()
    def step(self, tokens: Tensor, cache: TransformersCache) -> Tensor:
        """Append one token per row; hidden states Float[n, d]."""
        cache.mask = torch.cat([cache.mask, cache.mask.new_ones(len(tokens), 1)], dim=1)
        return self._advance(tokens[:, None], cache)[0]

    def _advance(self, ids: Tensor, cache: TransformersCache) -> tuple[Tensor, TransformersCache]:
        positions = (cache.mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self.lm.base_model(
            input_ids=ids,
            attention_mask=cache.mask,
            position_ids=positions,
            past_key_values=cache.cache,
            use_cache=True,
        )
        cache.cache = out.past_key_values
        return out.last_hidden_state[:, -1], cache

    def export(self) -> Iterable[tuple[str, Tensor]]:
        """Weights under transformers' names, adapters merged into them; a tied head once."""
        merged = Merged(self.lm)
        names = (name.replace(f"{BASE}.", ".") for name, _ in self.lm.named_parameters())
        return ((name, merged[name].detach()) for name in names if name in merged)

    def save(self, folder: Path) -> None:
        """Write config.json and safetensors."""
        merged = dict(Merged(self.lm)) if adapted_layers(self.lm) else None
        self.lm.save_pretrained(folder, state_dict=merged)


def load_transformers_model(
    folder: Path, raw: dict[str, Any], *, device: torch.device, dtype: torch.dtype
) -> LanguageModel:
    """Load a local folder; raises `ArchitectureError`, `WeightsMissingError`, `WeightsMismatchError`."""
    import transformers

    from aem_agent.model.weights import weight_files

    kind = raw.get("model_type")
    if raw.get("auto_map"):
        raise ArchitectureError(f"{str(folder)!r} needs Python code of its own (auto_map); such code is not run")
    weight_files(folder)
    try:
        lm, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
    except (ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise ArchitectureError(f"transformers cannot run {str(folder)!r} (model_type {kind!r}): {error}") from error
    except Exception as error:  # torn or foreign weight files: safetensors and transformers raise many kinds
        raise WeightsMismatchError(f"cannot read the weights of {str(folder)!r}: {error}") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        odd = sorted(str(key) for key in [*report["missing_keys"], *report["mismatched_keys"]])
        raise WeightsMismatchError(f"weights of {str(folder)!r} do not fit its config.json: {', '.join(odd[:3])} …")
    if lm.get_output_embeddings() is None:
        raise ArchitectureError(f"model_type {kind!r} has no output embedding: not a plain causal language model")
    return wrapped(lm.to(device))


def wrapped(lm: Any) -> LanguageModel:
    """A loaded model with a language-modelling head behind the interface, in evaluation mode; nothing is copied.

    Raises `ArchitectureError` where something comes after its head.
    """
    model = TransformersModel(lm).eval()
    _assert_plain_head(model)
    return cast(LanguageModel, model)


@torch.no_grad()
def _assert_plain_head(model: TransformersModel) -> None:
    """Some architectures scale or cap their logits after the head; `head` would not, so they are refused."""
    tokens = torch.arange(1, 6, device=model.device) % model.vocab_size
    want = model.lm(input_ids=tokens[None]).logits[0].float()
    found = model.head(model.hidden(tokens, torch.tensor([0, 5], device=model.device))).float()
    if not torch.allclose(want, found, rtol=0, atol=PROBE_TOLERANCE * max(1.0, float(want.abs().max()))):
        raise ArchitectureError(f"{type(model.lm).__name__} changes logits after its head; it is not supported")
