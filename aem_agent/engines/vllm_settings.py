"""What a vLLM engine is started with, checked before anything is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from aem_agent.engines.vllm_transfer import Transport
from aem_agent.model.interface import ModelFolderError, read_config
from aem_agent.types import EngineError

CPU_CACHE_GIB = 1.0
"""Keys and values on a CPU unless told otherwise: vLLM would take most of the machine's memory."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

CPU_BATCHED_TOKENS = 4096
"""Tokens of one forward pass on a CPU, or as many as one request may have."""

CPU_LEAST_HEAD = 32
"""Dimensions of an attention head that vLLM's kernels for CPUs begin with."""

NOT_OPTIONS = frozenset({"folder", "device", "max_batch", "vocab_size"})
"""Settings that come from elsewhere."""


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """Options of `VllmEngine.load`."""

    folder: Path
    """Model folder."""
    device: str
    """"cpu", or "cuda" (which ones: CUDA_VISIBLE_DEVICES)."""
    max_batch: int
    """Requests computed at once; others wait."""
    max_model_len: int = 0
    """Tokens that prompt and response may have together; 0: what the model takes."""
    dtype: str = "auto"
    """auto: float32 on CPUs, bfloat16 on GPUs."""
    tensor_parallel: int = 1
    """GPUs that share the model."""
    memory_utilization: float = 0.9
    """Share of each GPU's memory for weights, activations and cache."""
    kv_cache_gib: float | None = None
    """Memory for keys and values. None: what `memory_utilization` leaves; on CPUs VLLM_CPU_KVCACHE_SPACE, or 1."""
    enforce_eager: bool | None = None
    """No compilation and no CUDA graphs. None: true on CPUs, where compiling takes minutes."""
    weights: Transport = "auto"
    """How `load_weights` sends; see `vllm_transfer`."""
    lora_rank: int = 0
    """Largest rank of adapters for `load_adapter`; 0: none will come."""
    sleep: bool = False
    """`sleep` and `wake` will be used (GPUs only)."""
    seed: int = 0
    """vLLM's own; responses draw from their requests' seeds."""
    vocab_size: int = 0
    """Read from the folder."""

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Raise `EngineError` for options that no model could be started with: unknown ones, and wrong types."""
        kinds = {name: kind for name, kind in get_type_hints(cls).items() if name not in NOT_OPTIONS}
        if odd := options.keys() - kinds.keys():
            raise EngineError(f"unknown option {min(odd)!r} of the vllm engine; known: {', '.join(sorted(kinds))}")
        for name, value in options.items():
            allowed = [type(x) if get_origin(kinds[name]) is Literal else x for x in get_args(kinds[name])]
            accepted = tuple(allowed or [kinds[name]])
            accepted += (int,) if float in accepted else ()
            if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
                raise EngineError(f"option {name} of the vllm engine cannot be {value!r}")

    @classmethod
    def of(cls, folder: Path, device: str, max_batch: int, options: Mapping[str, Any]) -> "VllmSettings":
        """Checked settings; raises `EngineError`, `ModelFolderError`."""
        cls.check(options)
        config = read_config(folder)
        try:
            positions, vocabulary = int(config["max_position_embeddings"]), int(config["vocab_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFolderError(f"config.json of {str(folder)!r} lacks {error}") from None
        kind = "cuda" if device == "cuda:0" else device
        if kind not in ("cpu", "cuda"):
            raise EngineError(f"device {device!r} is not for vLLM: 'cpu', or 'cuda' and CUDA_VISIBLE_DEVICES")
        if max_batch < 1:
            raise EngineError(f"max_batch must be at least 1, not {max_batch}")
        asked = int(options.get("max_model_len") or positions)
        if not 1 < asked <= positions:
            raise EngineError(f"max_model_len is {asked}, but the model takes 2 to {positions} tokens")
        if kind == "cpu" and (dims := _head_dim(config)) < CPU_LEAST_HEAD:
            raise EngineError(
                f"vLLM on a CPU needs heads of {CPU_LEAST_HEAD} dimensions or more, the model's have {dims}: "
                "use the torch engine, or make the preset with model.preset_options.head_dim=32"
            )
        chosen = dict(options) | {"max_model_len": asked, "vocab_size": vocabulary}
        settings = cls(folder, kind, max_batch, **chosen)
        settings.torch_dtype  # noqa: B018 - a misspelt one is told now
        return settings

    @property
    def dtype_name(self) -> str:
        """What `auto` means here."""
        return ("float32" if self.device == "cpu" else "bfloat16") if self.dtype == "auto" else self.dtype

    @property
    def torch_dtype(self) -> torch.dtype:
        """The engine's precision."""
        found = DTYPES.get(self.dtype_name)
        if found is None:
            raise EngineError(f"dtype {self.dtype!r} is none of auto, float32, bfloat16, float16")
        return found

    def arguments(self, environment: Any) -> dict[str, Any]:
        """vLLM's engine arguments; `environment` is `os.environ`."""
        on_cpu = self.device == "cpu"
        cache = self.kv_cache_gib
        if cache is None and on_cpu and not environment.get("VLLM_CPU_KVCACHE_SPACE"):
            cache = CPU_CACHE_GIB
        given: dict[str, Any] = {
            "model": str(self.folder),
            "dtype": self.dtype_name,
            "max_model_len": self.max_model_len,
            "max_num_seqs": self.max_batch,
            "tensor_parallel_size": self.tensor_parallel,
            "enforce_eager": on_cpu if self.enforce_eager is None else self.enforce_eager,
            "seed": self.seed,
        }
        if cache is not None:
            given["kv_cache_memory_bytes"] = int(cache * 2**30)
        if on_cpu:
            # on a CPU vLLM dies of a seeded request that it prefills in pieces: "CPU Generator does not use offset"
            most = max(CPU_BATCHED_TOKENS, self.max_model_len)
            given |= {"enable_chunked_prefill": False, "max_num_batched_tokens": most}
        else:
            given |= {"gpu_memory_utilization": self.memory_utilization, "enable_sleep_mode": self.sleep}
        if self.lora_rank:
            given |= {"enable_lora": True, "max_lora_rank": max(8, self.lora_rank), "max_loras": 2}
        return given


def _head_dim(config: Mapping[str, Any]) -> int:
    """As transformers takes it from config.json; a model that does not say is left to vLLM."""
    try:
        return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return CPU_LEAST_HEAD
