"""The decoder's weights in transformers' names and files: safetensors, whole or in shards; pickles are never opened."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from aem_agent.model.decoder import Decoder
from aem_agent.model.interface import WeightsMismatchError, WeightsMissingError
from aem_agent.model.lora_layers import BASE, Merged

INDEX = "model.safetensors.index.json"

Put = Callable[[Tensor, Tensor], object]
"""Writes whole values (the second) into a parameter (the first), of which there may be only a part here."""


def name_table(model: Decoder) -> dict[str, list[tuple[str, int]]]:
    """Our parameter's name to transformers' names and their rows, in the order in which they are stacked."""
    c = model.config
    table = {
        "embed.weight": [("model.embed_tokens.weight", c.vocab_size)],
        "norm.weight": [("model.norm.weight", c.hidden_size)],
    }
    if not c.tied:
        table["lm_head.weight"] = [("lm_head.weight", c.vocab_size)]
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
    for i in range(c.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
        for kind in ("weight", "bias") if c.family == "qwen2" else ("weight",):
            parts = [(f"{attention}.{x}_proj.{kind}", size) for x, size in (("q", q), ("k", kv), ("v", kv))]
            table[f"{ours}.qkv.{kind}"] = parts
        if c.family == "qwen3":
            table |= {f"{ours}.{x}_norm.weight": [(f"{attention}.{x}_norm.weight", c.head_dim)] for x in "qk"}
        table |= {
            f"{ours}.norm1.weight": [(f"{theirs}.input_layernorm.weight", c.hidden_size)],
            f"{ours}.out.weight": [(f"{attention}.o_proj.weight", c.hidden_size)],
            f"{ours}.norm2.weight": [(f"{theirs}.post_attention_layernorm.weight", c.hidden_size)],
            f"{ours}.gate_up.weight": [(f"{mlp}.gate_proj.weight", c.ffn), (f"{mlp}.up_proj.weight", c.ffn)],
            f"{ours}.down.weight": [(f"{mlp}.down_proj.weight", c.hidden_size)],
        }
    return table


def _paired(part: str) -> bool:
    """Whether rotary positions turn this weight's output."""
    return part.rsplit(".", 2)[-2] in ("q_proj", "k_proj", "q_norm", "k_norm")


def _interleave(theirs: Tensor, head_dim: int) -> Tensor:
    """transformers pairs rows j and j + hd/2 of a head for rotation; the decoder keeps the two next to each other."""
    return theirs.reshape(-1, 2, head_dim // 2, *theirs.shape[1:]).transpose(1, 2).reshape(theirs.shape)


def _separate(ours: Tensor, head_dim: int) -> Tensor:
    """The inverse of `_interleave`."""
    return ours.reshape(-1, head_dim // 2, 2, *ours.shape[1:]).transpose(1, 2).reshape(ours.shape)


def split_rows(parts: list[tuple[str, int]], stacked: Tensor, head_dim: int) -> Iterator[tuple[str, Tensor]]:
    """(transformers' name, rows) of a tensor whose rows are those of a parameter of ours; `parts` is its entry in
    `name_table`."""
    pieces = torch.split(stacked, [rows for _, rows in parts])
    for (part, _), piece in zip(parts, pieces, strict=True):
        yield part, _separate(piece, head_dim) if _paired(part) else piece


def export_weights(model: Decoder) -> Iterator[tuple[str, Tensor]]:
    """(transformers' name, weight), one at a time; adapters are merged into it."""
    own = Merged(model)
    for name, parts in name_table(model).items():
        yield from split_rows(parts, own[name].detach(), model.config.head_dim)


@torch.no_grad()
def import_weights(model: Decoder, tensors: Mapping[str, Tensor], put: Put = Tensor.copy_) -> None:
    """Copy weights given under transformers' names into the model, one parameter at a time; adapters stay as they are.

    Raises:
        WeightsMismatchError: they are not the model's.
    """
    own = {name.replace(f"{BASE}.", "."): p for name, p in model.named_parameters()}
    left = {name for name in tensors if not name.endswith("rotary_emb.inv_freq")}
    for name, parts in name_table(model).items():
        pieces: list[Tensor] = []
        for part, rows in parts:
            if part not in tensors:
                raise WeightsMismatchError(f"weights lack {part!r}: the files do not fit config.json")
            given, asked = tensors[part], (rows, *own[name].shape[1:])
            if given.shape != asked:
                raise WeightsMismatchError(f"{part!r} is {tuple(given.shape)}, config.json asks {asked}")
            pieces.append(_interleave(given, model.config.head_dim) if _paired(part) else given)
            left.discard(part)
        put(own[name], pieces[0] if len(pieces) == 1 else torch.cat(pieces))
    if model.config.tied and "lm_head.weight" in left:
        left.discard("lm_head.weight")
        if not torch.equal(tensors["lm_head.weight"], tensors["model.embed_tokens.weight"]):
            raise WeightsMismatchError("config.json ties the head to the embedding, yet the weights hold another head")
    if left:
        raise WeightsMismatchError(f"weights that the architecture does not have: {', '.join(sorted(left)[:3])} …")


def save_weights(model: Decoder, folder: Path) -> None:
    """Write config.json and model.safetensors (each moved into place when complete)."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, config = folder / "model.safetensors.tmp", folder / "config.json.tmp"
    save_file({k: v.contiguous().cpu() for k, v in export_weights(model)}, weights, metadata={"format": "pt"})
    raw = model.config.to_json() | {"dtype": str(model.embed.weight.dtype).removeprefix("torch.")}
    config.write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    weights.replace(folder / "model.safetensors")
    config.replace(folder / "config.json")


def load_weights(model: Decoder, folder: Path, put: Put = Tensor.copy_) -> None:
    """Read the folder's safetensors into the model, whose parameters may be of any type and on any device, and fill its
    buffers. Files are mapped: beside the model, copies of one parameter at a time are in memory.

    Raises:
        WeightsMissingError, WeightsMismatchError: there are none, or they are not the model's.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as opened:
                tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsMismatchError(f"cannot read {file}: {error}; copy or save the model again") from error
    import_weights(model, tensors, put)
    model.reset_buffers()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, shards by their index; raises `WeightsMissingError`."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if not (folder / INDEX).is_file():
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        hint = "; pickled weights are not opened, convert them to safetensors" if pickled else ""
        raise WeightsMissingError(f"{str(folder)!r} has no model.safetensors{hint}")
    try:
        names = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsMismatchError(f"{folder / INDEX} is malformed: {error!r}") from error
    files = [folder / str(name) for name in sorted(names)]
    for file in files:
        if file.name != file.relative_to(folder).as_posix() or not file.is_file():
            raise WeightsMissingError(f"shard {str(file)!r} of {INDEX} is missing")
    return files
