"""Model folders of a run: `warmstart`, and `models/…` with `best` pointing to one. The first process writes them."""

import json
import math
from collections.abc import Callable
from pathlib import Path

from aem_agent.files import open_to_read, own_folder
from trainer import checkpoints
from trainer.errors import CheckpointError
from trainer.world import ALONE, World

SCORE = "score.json"
"""Beside the weights that `best` points to: the score they were chosen by."""

Write = Callable[[Path], None]
"""Fills a folder with the present model."""


class Exports:
    """What a run in the folder `run` has exported."""

    def __init__(self, run: Path, world: World = ALONE) -> None:
        self.run = run
        self._world = world

    @property
    def best(self) -> Path:
        """Link to the model folder that evaluations should take."""
        return self.run / "best"

    @property
    def score(self) -> float | None:
        """The score that the weights in `best` were chosen by; None if none were.

        It is read from beside them, not from a checkpoint: whenever a run was stopped, score and weights agree.

        Raises:
            CheckpointError: the file is damaged.
        """
        return self._world.only_first(self._score)

    def _score(self) -> float | None:
        path = self.best / SCORE
        if not path.exists():
            return None
        try:
            with open_to_read(path) as file:
                score = float(json.loads(file.read(1000)))
            if not math.isfinite(score):
                raise ValueError(f"{score} is no score")
            return score
        except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}): remove it, and the next best is kept") from error

    def keep(self, name: str, write: Write, score: float | None = None) -> None:
        """Export the model as `models/<name>`, with the score it was chosen by, and let `best` point to it."""

        def filled(folder: Path) -> None:
            write(folder)
            if score is not None:
                (folder / SCORE).write_text(json.dumps(score), encoding="utf-8")

        def export() -> None:
            try:
                models = own_folder(self.run, "models")
            except OSError as error:
                raise CheckpointError(f"cannot write {error.filename}: {error.strerror}") from error
            checkpoints.write_folder(models / name, filled)
            checkpoints.point(self.best, models / name)
            checkpoints.remove_all_but(models, models / name)

        self._world.only_first(export)

    def start(self, write: Write) -> None:
        """Export the weights that RL starts from to `warmstart`, so that both stages can be evaluated anywhere."""
        self._world.only_first(lambda: checkpoints.write_folder(self.run / "warmstart", write))
