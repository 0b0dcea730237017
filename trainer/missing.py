"""What a run needs and this machine lacks: devices, packages, a model folder, data, sandboxes. All of it at once, with
what to do about each, apart from what is wrong in a recipe, which is raised.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from aem_agent.engines.vllm_compat import VllmVersionError
from aem_agent.model.devices import available, torch_device
from aem_agent.model.interface import ModelError, TokenizerMissingError
from aem_envs.alfworld.real import RealEngineMissingError
from aem_envs.cli_common import describe
from aem_envs.swebench.sandbox import SandboxMissingError, sandboxes
from aem_envs.webshop.browser.process import BrowserMissingError
from envs_data.errors import DataUnavailableError
from envs_data.swebench.files import ParquetMissingError
from envs_data.swebench.sdists import MissingSdistError
from trainer.config import ModelConfig, TrainConfig
from trainer.errors import RecipeError

LACKING = (
    ImportError,
    VllmVersionError,
    TokenizerMissingError,
    RealEngineMissingError,
    SandboxMissingError,
    BrowserMissingError,
    DataUnavailableError,
    ParquetMissingError,
    MissingSdistError,
)
"""Errors that tell of something the machine lacks; all others tell of a mistake. A file that is not there counts too,
whatever error it was turned into."""


class NotHereError(RecipeError):
    """The machine lacks several things that the run needs; the message lists them all."""


class Gaps:
    """What is missing, each said once, in words that tell what to do."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._errors: list[Exception] = []

    def add(self, line: str, error: Exception | None = None) -> None:
        """Note one thing; `error` is how it would have ended a run."""
        if line not in self.lines:
            self.lines.append(line)
            self._errors.append(error or RecipeError(line))

    @contextmanager
    def noted(self, *more: type[Exception], advice: str = "") -> Iterator[None]:
        """Note what is `LACKING`, or of the types `more`, with further `advice`; anything else is raised."""
        try:
            yield
        except Exception as error:
            if not (isinstance(error, (*LACKING, *more)) or isinstance(error.__cause__, FileNotFoundError)):
                raise
            self.add(f"{describe(error)}{advice}", error)

    def refuse(self) -> None:
        """Raise if anything is missing: its own error if it is one thing, `NotHereError` if there are several."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            listed = "; ".join(f"({number}) {line}" for number, line in enumerate(self.lines, 1))
            raise NotHereError(f"this machine lacks what the run needs: {listed}")


def note_device(config: TrainConfig, gaps: Gaps) -> None:
    """The device; GPUs are counted, not used. Raises `ModelError` for a name that is no device's."""
    name, count = config.device, config.scale.processes
    needed = "a GPU" if count == 1 else f"{count} GPUs (scale.processes)"
    advice = f": the run needs {needed}; a small model also runs with --set device=cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        torch_device(name)  # which says what there is
        raise
    with gaps.noted(*(() if device.type == "meta" else (ModelError,)), advice=advice):
        if device.type != "cuda":
            torch_device(name)
        elif (device.index or 0) >= torch.cuda.device_count():
            raise ModelError(f"device {name!r} cannot be used here; available: {', '.join(available())}")


def note_devices(config: TrainConfig, gaps: Gaps) -> None:
    """As many GPUs as there are processes: for those who ask before any is started, and each sees its own only."""
    here = torch.cuda.device_count()
    if not here or not config.device.startswith("cuda"):
        return
    parallel = config.rollout.engine_options.get("tensor_parallel", 1)
    wanted = {
        "scale.processes": config.scale.processes,
        "rollout.engine_options.tensor_parallel": parallel if isinstance(parallel, int) else 1,
    }
    for key, count in wanted.items():
        if count > here:
            gaps.add(
                f"{key}={count} needs as many GPUs, this machine has {here}: set it to {here}, or start torchrun on "
                "several machines"
            )


def note_model(config: ModelConfig, gaps: Gaps) -> bool:
    """A model folder's parts; returns whether its config.json and tokenizer can be read."""
    from aem_agent.model.interface import load_tokenizer

    if config.path is None:
        return False
    folder = Path(config.path)
    if not (folder / "config.json").is_file():
        gaps.add(
            f"{config.path!r} (model.path) is not a model folder, it has no config.json: fetch the model, and name its "
            "folder by --set model.path=DIR"
        )
        return False
    if not any(folder.glob("*.safetensors")):
        gaps.add(f"{config.path!r} (model.path) holds no *.safetensors: fetch the model's weights")
    before = len(gaps.lines)
    with gaps.noted():
        load_tokenizer(folder)
    return len(gaps.lines) == before


def note_sandbox(kwargs: Mapping[str, Any], gaps: Gaps) -> None:
    """What SWE-bench's episodes need besides their tasks, and look for only when one begins.

    Raises:
        UnknownPluginError: no such sandbox.
    """
    kind = str(kwargs.get("sandbox") or ("docker" if kwargs.get("source") == "official" else "local"))
    if kind not in ("docker", "local"):
        sandboxes.get(kind)
        return
    if find_spec("swebench") is None:
        gaps.add('swebench, whose harness judges, is not installed: pip install "aem-suite[swebench]"')
    if kind == "docker":
        from aem_envs.swebench.sandbox.docker_exec import client

        with gaps.noted():
            client()
    elif not kwargs.get("allow_unsafe"):
        from aem_envs.swebench.sandbox.levels import probe

        reasons = {level: probe(level) for level in ("bwrap", "userns")}
        if None not in reasons.values():
            listed = "; ".join(f"{level}: {reason}" for level, reason in reasons.items())
            gaps.add(f"no sandbox for commands can be made here ({listed}): install bubblewrap, or take sandbox=docker")
