"""Starting and resuming runs: recipes by name or path, run folders, one run per folder at a time."""

import importlib
import os
import runpy
import shutil
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aem_agent.files import LINK, open_to_append, quoted
from aem_agent.records import RunFolderError
from aem_agent.trust import acting, require_trust
from trainer.config import ConfigError, TrainConfig
from trainer.errors import RecipeError
from trainer.overrides import check_types, from_json, misspelt, to_json

if TYPE_CHECKING:
    from aem_agent.run_folder import RunFolder
    from trainer.progress import Reporter
    from trainer.session import Session
    from trainer.world import World

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
        TrainerError, AgentError, AemEnvError: as `check_recipe`, or what the run needs cannot be opened; nothing is
            left in the folder then.
    """
    from aem_agent.run_folder import RunFolder
    from trainer.dry_run import check_recipe
    from trainer.session import Session
    from trainer.world import place

    def empty() -> None:
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise RunFolderError(
                f"{path} is not empty: `aem-train resume {quoted(path)}` continues a run; else choose another --out"
            )
        check_recipe(config)

    with _world(config) as world:
        config = place(config, world)
        world.only_first(empty)
        path = world.only_first(lambda: path)  # the first's, should it bear a time
        there = path.exists()
        folder = world.only_first(lambda: RunFolder.create(path, {"kind": KIND, "config": to_json(config)}))
        with _locked(path, world):
            try:
                session = Session(config, folder, reporter, world)
            except Exception:
                if world.first:
                    _remove(path, keep=there)
                raise
            with closing(session):
                yield session


def _remove(path: Path, *, keep: bool) -> None:
    """Take away a run that could not begin, so that the same command can be given again; `keep` the empty folder."""
    with suppress(OSError):  # the error that ended the run matters more
        for inner in path.iterdir():
            if inner.is_dir() and not inner.is_symlink():
                shutil.rmtree(inner, ignore_errors=True)
            else:
                inner.unlink(missing_ok=True)
        if not keep:
            path.rmdir()


@contextmanager
def resumed_run(path: Path, reporter: "Reporter", *, trust: bool = False) -> Iterator["Session"]:
    """The run of `path`, to be continued from its newest checkpoint.

    Raises:
        RunFolderError: no training run, one of another version, or one that is running.
        UntrustedRecordError: it names code or programs, and `trust` is not set; see `aem_agent.trust`.
    """
    from aem_agent.run_folder import RunFolder
    from trainer.session import Session
    from trainer.world import place

    if not trust:
        refuse_acting(path, f"aem-train resume {quoted(path)}")
    folder = RunFolder.open(path)
    config = _config_of(folder)
    refuse_links(path)
    with _world(config) as world:
        config = place(config, world)
        with _locked(path, world), closing(Session(config, folder, reporter, world)) as session:
            session.restore()
            yield session


def _config_of(folder: "RunFolder") -> TrainConfig:
    path = folder.path
    if folder.config.get("kind") != KIND:
        raise RunFolderError(f"{path} is not a training run")
    try:
        config: TrainConfig = from_json(folder.config.get("config"))
        return config
    except ConfigError as error:
        raise RunFolderError(
            f"{path} was made by another version: {error}; resume it with that version ({path / 'config.json'} names "
            "it), or train anew with `aem-train run`"
        ) from error


def refuse_links(path: Path) -> None:
    """Raise `RunFolderError` if a folder of the run, or a file of its first model, is a link: what a run writes and
    removes is in its folder, and what it copies is from there."""
    inside = ("init", "warmstart", "models", "checkpoints", "episodes", "analysis", "tensorboard", "wandb")
    files = (path / "init").iterdir() if (path / "init").is_dir() else ()
    for found in (*(path / name for name in inside), *files):
        if found.is_symlink():
            raise RunFolderError(f"{found}: {LINK}")


def refuse_acting(path: Path, command: str) -> None:
    """Raise `UntrustedRecordError` if the configuration in `path` names what would be imported, started or sent when it
    is used; `command` is what to give again. Raises `RunFolderError` if there is no run."""
    from aem_agent.run_folder import RunFolder

    require_trust(path, acting(RunFolder.open(path).config), command)


def resume_command(path: Path) -> str:
    """What continues a run of one's own."""
    from aem_agent.run_folder import RunFolder

    trust = ""
    with suppress(RunFolderError):
        trust = " --trust" if acting(RunFolder.open(path).config) else ""
    return f"aem-train resume {quoted(path)}{trust}"


def processes_of(path: Path) -> int:
    """How many processes the run in `path` was begun with; raises `RunFolderError`."""
    from aem_agent.run_folder import RunFolder

    return _config_of(RunFolder.open(path)).scale.processes


def _world(config: TrainConfig) -> "AbstractContextManager[World]":
    """The processes that this one trains with; see `trainer.world`."""
    from trainer.world import choose_device, opened

    choose_device(config)
    return opened(config.device, group=config.scale.shard)


@contextmanager
def _locked(path: Path, world: "World") -> Iterator[None]:
    """Keep another run out of the folder; the system frees the lock of a process that dies."""
    taken = ExitStack()
    with taken:
        world.only_first(lambda: taken.enter_context(_lock(path)))
        yield


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # no advisory locks on this system
        yield
        return
    try:
        descriptor = open_to_append(path / ".lock")
    except OSError as error:
        raise RunFolderError(f"cannot open {path / '.lock'}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise RunFolderError(f"{path} is in use by another run") from error
    try:
        yield
    finally:
        os.close(descriptor)
