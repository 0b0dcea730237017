"""Where a run's records go besides `metrics.jsonl`: TensorBoard, Weights & Biases.

The JSON lines are the record of a run; what is here shows them elsewhere. So nothing here may end a training: a writer
that fails while it goes on is dropped with one warning. Nothing leaves the machine unless `metrics.wandb` names a
project.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from aem_agent.run_folder import write_atomically
from trainer.config import MetricsConfig, TrainConfig
from trainer.errors import TrainerError
from trainer.masking import masked
from trainer.metrics import Record
from trainer.overrides import to_json

TENSORBOARD = "tensorboard"
"""Folder of the event files in a run's folder."""
WANDB_RUN = "wandb.json"
"""Which run of Weights & Biases a run's folder is: a resumed one goes on with it."""
OPENING, CLOSING = 30.0, 60.0
"""Seconds that Weights & Biases may take to open a run, and to send at its end what is in hand."""
_PLACES = ("kind", "stage", "step", "when", "temperature")


class WriterError(TrainerError):
    """TensorBoard or Weights & Biases was asked for and cannot be written to."""


class Writer(Protocol):
    """Something that shows records."""

    name: str

    def write(self, number: int, record: Record) -> None:
        """Show one record, the `number`-th of the run (from 0)."""

    def rewrite(self, records: Sequence[Record]) -> None:
        """A run goes on from a checkpoint: these are its records so far, and any later ones are void."""

    def close(self) -> None:
        """Send what is in hand, and end."""


class Writers:
    """All that were asked for; `MetricsLog` tells it what it writes.

    Args:
        writers: they.
        warn: is told when one fails, once for each.
    """

    def __init__(self, writers: Sequence[Writer], warn: Callable[[str], None]) -> None:
        self._writers = list(writers)
        self._warn = warn

    def write(self, number: int, record: Record) -> None:
        """Show one record everywhere."""
        self._each(lambda writer: writer.write(number, record))

    def rewrite(self, records: Sequence[Record]) -> None:
        """Show these, and only these, everywhere."""
        self._each(lambda writer: writer.rewrite(records))

    def close(self) -> None:
        """End all of them."""
        self._each(lambda writer: writer.close())
        self._writers.clear()

    def _each(self, act: Callable[[Writer], None]) -> None:
        for writer in list(self._writers):
            try:
                act(writer)
            except Exception as error:  # a network or a disk: whatever it is, it is not worth a training
                self._writers.remove(writer)
                with suppress(Exception):
                    writer.close()
                self._warn(
                    f"{writer.name} failed ({type(error).__name__}: {error}) and is told no more; training goes on, "
                    "and metrics.jsonl has everything"
                )


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record by name, such as `rl/success`, `evaluation/valid_seen/greedy/success`, `alarm/kl`."""
    kind = record["kind"]
    if kind == "alarm":
        return {f"alarm/{record['cause']}": 1.0}
    if kind == "evaluation":
        kind = f"evaluation/{record['split']}/{'sampled' if record['temperature'] else 'greedy'}"
    return {
        f"{kind}/{key}": float(value)
        for key, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and key not in _PLACES
    }


class TensorBoardWriter:
    """Event files in the run's folder; the step of a point is that of its stage."""

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / TENSORBOARD
        self._open(purge=False)

    def _open(self, *, purge: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard drops all points of older files from `purge_step` on; 0 is right for every stage's steps
        self._to: Any = SummaryWriter(str(self._folder), purge_step=0 if purge else None)

    def write(self, number: int, record: Record) -> None:
        for name, value in scalars(record).items():
            self._to.add_scalar(name, value, record["step"])

    def rewrite(self, records: Sequence[Record]) -> None:
        """A new file that voids what is in older ones: a killed run's last points may be missing there, or too many."""
        self._to.close()
        self._open(purge=True)
        for number, record in enumerate(records):
            self.write(number, record)

    def close(self) -> None:
        self._to.close()


class WandbWriter:
    """A run of Weights & Biases; its mode is that of WANDB_MODE, which may be `offline`.

    Sent are the records' numbers and `config` without its secrets, and nothing of the machine, the user or the command
    line but the system's kind and versions of Python and wandb.

    Raises:
        WriterError: it cannot be opened within `OPENING` seconds.
    """

    name = "Weights & Biases"

    def __init__(self, project: str, folder: Path, config: dict[str, Any], say: Callable[[str], None]) -> None:
        known = folder / WANDB_RUN
        run_id = _run_id(known) if known.exists() else uuid4().hex[:12]
        entity, _, name = project.rpartition("/")
        say("opening Weights & Biases …")
        try:
            import wandb

            # wandb reads the variable once for a process, and something may have begun it before that was set
            mode = {"mode": os.environ["WANDB_MODE"]} if os.environ.get("WANDB_MODE") else {}
            settings = wandb.Settings(
                **mode,
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                host="",
                program="aem-train",
                init_timeout=OPENING,
                finish_timeout=CLOSING,  # without one it waits for the network for ever, and the folder stays in use
            )
            self._run = wandb.init(
                entity=entity or None,
                project=name,
                id=run_id,
                resume="allow",
                name=folder.resolve().name,
                dir=str(folder),
                config=masked(config),
                settings=settings,
            )
            self._next: int = self._run.step
        except Exception as error:
            raise _refused(error) from error
        write_atomically(known, json.dumps({"id": run_id, "project": project}).encode())
        for kind in ("warmstart", "explore", "rl", "evaluation", "alarm"):
            self._run.define_metric(f"{kind}/*", step_metric=f"{kind}/step")
        if self._run.url:
            say(f"metrics go to {self._run.url}")

    def write(self, number: int, record: Record) -> None:
        """Steps that are done again after a resume have the numbers they had, and are sent once."""
        if number >= self._next:
            values = scalars(record) | {f"{record['kind']}/step": record["step"]}
            self._run.log(values, step=number, commit=True)  # else it waits for the next one
            self._next = number + 1

    def rewrite(self, records: Sequence[Record]) -> None:
        """It keeps what it was sent; what a killed run did not get to send follows. Offline, where nothing can be known
        of that, each start of a run has a file of its own, with everything."""
        for number, record in enumerate(records):
            self.write(number, record)

    def close(self) -> None:
        self._run.finish()


def check_writers(config: MetricsConfig) -> None:
    """Whether what is asked for is installed, and can be written to without asking anybody.

    Raises:
        WriterError: it says what to install or to set.
    """
    if config.tensorboard:
        _need("tensorboard", "metrics.tensorboard")
    if config.wandb is None:
        return
    if not config.wandb.strip("/ "):
        raise WriterError("metrics.wandb names no project: write metrics.wandb=PROJECT, or leave it out")
    _need("wandb", "metrics.wandb")
    if os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun"):
        return
    try:
        import wandb

        wandb.setup(settings=wandb.Settings(silent=True))
        known = wandb.login(prompt=False, verify=False)  # looks for a key, and asks neither a person nor the network
    except Exception as error:
        raise _refused(error) from error
    if not known:
        raise WriterError(
            "metrics.wandb: nobody is logged in to Weights & Biases here: `wandb login`, or set WANDB_API_KEY, or "
            "WANDB_MODE=offline to keep everything on this machine"
        )


def _run_id(known: Path) -> str:
    """Which run it was before.

    Raises:
        WriterError: the file is damaged.
    """
    try:
        return str(json.loads(known.read_bytes())["id"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WriterError(
            f"{known}, which names the run of Weights & Biases, cannot be read ({type(error).__name__}: {error}): "
            "remove it to go on in another one"
        ) from error


def _refused(error: Exception) -> WriterError:
    words = " ".join(str(error).split())[:200]
    return WriterError(
        f"Weights & Biases cannot be opened ({type(error).__name__}: {words}): log in with `wandb login`, set "
        "WANDB_MODE=offline, or leave metrics.wandb out"
    )


def _need(package: str, key: str) -> None:
    found = find_spec(package)
    if found is None or found.origin is None:  # a mere folder of that name is no package
        raise WriterError(f'{key} needs {package}, which is not installed: pip install "aem-suite[{package}]"')


def open_writers(config: TrainConfig, folder: Path, warn: Callable[[str], None]) -> Writers:
    """The writers that a run's configuration asks for. `warn` is told of failures, and where the metrics can be seen.

    Raises:
        WriterError: one cannot be opened. Of a run that wrote to it before, this is only a warning: it goes on.
    """
    makers: list[tuple[Path, Callable[[], Writer]]] = []
    if config.metrics.tensorboard:
        makers.append((folder / TENSORBOARD, lambda: TensorBoardWriter(folder)))
    if project := config.metrics.wandb:
        makers.append((folder / WANDB_RUN, lambda: WandbWriter(project, folder, to_json(config), warn)))
    writers: list[Writer] = []
    for trace, make in makers:
        went_before = trace.exists()
        try:
            writers.append(make())
        except (WriterError, ImportError, OSError) as error:
            if not went_before:
                raise
            warn(f"{error}; training goes on without it")
    return Writers(writers, warn)
