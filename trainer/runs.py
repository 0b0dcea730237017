"""Starting and resuming runs: recipes by name or path, run folders, one run per folder at a time."""

import importlib
import os
import runpy
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aem_agent.records import RunFolderError
from trainer.config import ConfigError, TrainConfig
from trainer.errors import RecipeError
from trainer.overrides import check_types, from_json, misspelt, to_json

if TYPE_CHECKING:
    from trainer.progress import Reporter
    from trainer.session import Session

KIND = "aem-train"


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    folder = Path(__file__).with_name("recipes")
    return sorted(path.stem.replace("_", "-") for path in folder.glob("[a-z]*.py"))


def load_recipe(name: str) -> TrainConfig:
    """A shipped recipe by name, `path/to/recipe.py`, or `module:attribute`. The file is the user's own code: it runs.

    Raises:
        RecipeError: no such recipe, its code fails, or it does not define `recipe = TrainConfig(...)`.
        ConfigError: a value of the wrong type.
    """
    if name in recipe_names():
        found: Any = importlib.import_module(f"trainer.recipes.{name.replace('-', '_')}").recipe
    elif name.endswith(".py"):
        if not Path(name).is_file():
            raise RecipeError(f"there is no recipe file {name!r}")
        found = _run_file(name)
    elif ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise RecipeError(f"cannot load recipe {name!r}: {error}") from error
    else:
        raise RecipeError(f"unknown recipe {name!r}; known: {', '.join(recipe_names())}, a .py file or module:name")
    if not isinstance(found, TrainConfig):
        raise RecipeError(f"{name!r} does not define `recipe = TrainConfig(...)`")
    check_types(found)
    return found


def _run_file(name: str) -> Any:
    """What a recipe file defines as `recipe`; whatever its code raises is a `RecipeError` that says where."""
    try:
        return runpy.run_path(name).get("recipe")
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        raise RecipeError(f"{name}, line {line}: {type(error).__name__}: {error}{misspelt(str(error))}") from error


def default_out(recipe: str) -> Path:
    """`runs/<recipe>-<date>-<time>` below the current folder, one that is not there yet."""
    stem = Path("runs") / f"{Path(recipe.replace(':', '-')).stem}-{datetime.now():%Y%m%d-%H%M%S}"
    return next(p for p in (stem, *(stem.with_name(f"{stem.name}-{i}") for i in range(1, 100))) if not p.exists())


@contextmanager
def new_run(config: TrainConfig, path: Path, reporter: "Reporter") -> Iterator["Session"]:
    """A fresh run in an empty or new folder.

    Raises:
        RunFolderError: the folder is not empty.
        TrainerError, AgentError, AemEnvError: as `check_recipe`; nothing is written then.
    """
    from aem_agent.run_folder import RunFolder
    from trainer.dry_run import check_recipe
    from trainer.session import Session

    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise RunFolderError(
            f"{path} is not empty: `aem-train resume {path}` continues a run; else choose another --out"
        )
    check_recipe(config)
    folder = RunFolder.create(path, {"kind": KIND, "config": to_json(config)})
    with _locked(path):
        yield Session(config, folder, reporter)


@contextmanager
def resumed_run(path: Path, reporter: "Reporter") -> Iterator["Session"]:
    """The run of `path`, to be continued from its newest checkpoint.

    Raises:
        RunFolderError: no training run, one of another version, or one that is running.
    """
    from aem_agent.run_folder import RunFolder
    from trainer.session import Session

    folder = RunFolder.open(path)
    if folder.config.get("kind") != KIND:
        raise RunFolderError(f"{path} is not a training run")
    try:
        config = from_json(folder.config["config"])
    except ConfigError as error:
        raise RunFolderError(f"{path} was made by another version: {error}") from error
    with _locked(path):
        session = Session(config, folder, reporter)
        session.restore()
        yield session


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep a second process out of the folder; the system frees the lock of a process that dies."""
    try:
        import fcntl
    except ImportError:  # no advisory locks on this system
        yield
        return
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise RunFolderError(f"{path} is in use by another run") from error
    try:
        yield
    finally:
        os.close(descriptor)
