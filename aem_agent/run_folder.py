"""The folder of a run: what was asked for, what was played, and what came of it.

config.json       schema version, versions of the software, seeds, hashes, the configuration; written once, atomically
episodes.jsonl    one line per episode, flushed as each ends
summary.json      } written at the end by whoever sums up
report.html       }
"""

import json
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aem_agent.files import quoted, read_config, replacing
from aem_agent.records import SCHEMA_VERSION, EpisodeWriter, RecordWriteError, RunFolderError, read_episodes
from aem_agent.types import Episode

PACKAGES = ("aem-suite", "gymnasium", "numpy", "torch", "transformers", "tokenizers", "textworld", "alfworld", "vllm")


class RunFolder:
    """A run's files. Make one with `create`, `open` or `resume`."""

    def __init__(self, path: Path, config: dict[str, Any], versions: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.config = config
        self.versions = versions or {}
        """Of the software it was begun with, as recorded."""
        self.episodes_path = path / "episodes.jsonl"
        self.summary_path = path / "summary.json"
        self.report_path = path / "report.html"

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> "RunFolder":
        """Start a run in an empty or new folder. `config` is JSON data; put all that a resumed run must share in it.

        Raises:
            RunFolderError: the folder holds a run already.
            RecordWriteError: it cannot be written.
        """
        if (path / "config.json").exists():
            again = f"--resume {quoted(path)}"
            raise RunFolderError(f"{path} already holds a run; resume it with {again}, or choose another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordWriteError(f"cannot make the folder {path}: {error.strerror}") from error
        written = json.loads(json.dumps(config))  # what a reader will see: tuples are lists, keys are strings
        versions = software_versions()
        head = {"schema_version": SCHEMA_VERSION, "versions": versions, "config_hash": config_hash(written)}
        write_json(path / "config.json", {**head, "config": written})
        return cls(path, written, versions)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open a run to read it.

        Raises:
            RunFolderError: no run there, one of another schema version, or a damaged `config.json`.
        """
        file = path / "config.json"
        try:
            data = json.loads(read_config(file))
        except FileNotFoundError as error:
            raise RunFolderError(f"{path} holds no run: it has no config.json") from error
        except (OSError, ValueError, RecursionError) as error:
            raise RunFolderError(f"cannot read {file}: {error}") from error
        found = data.get("schema_version") if isinstance(data, dict) else None
        if found != SCHEMA_VERSION:
            raise RunFolderError(
                f"{path} has schema version {str(found)[:20]}, this software reads {SCHEMA_VERSION}; "
                "use the release that wrote it"
            )
        if not isinstance(data.get("config"), dict) or data.get("config_hash") != config_hash(data["config"]):
            raise RunFolderError(f"{file} was changed or damaged: its configuration does not match its hash")
        versions = data.get("versions")
        return cls(path, data["config"], versions if isinstance(versions, dict) else {})

    @classmethod
    def resume(cls, path: Path, config: dict[str, Any]) -> "RunFolder":
        """Open a run to continue it under the same configuration.

        Raises:
            RunFolderError: as `open`, or `config` differs; the message says in what.
        """
        folder = cls.open(path)
        differences = differing(folder.config, json.loads(json.dumps(config)))
        if differences:
            raise RunFolderError(f"{path} was run with another configuration: {'; '.join(differences)}")
        return folder

    def writer(self) -> EpisodeWriter:
        """Append to the run's episodes; repairs a torn last line first."""
        return EpisodeWriter(self.episodes_path)

    def episodes(self) -> list[Episode]:
        """The newest record of every (task, repeat), in the order first played; raises `RecordError`."""
        if not self.episodes_path.exists():
            return []
        return list({(e.split, e.task_id, e.repeat): e for e in read_episodes(self.episodes_path)}.values())

    def completed(self) -> set[tuple[str, int]]:
        """(task id, repeat) of the episodes that need not be played again: `RolloutManager.run(skip=…)`."""
        return {(e.task_id, e.repeat) for e in self.episodes() if e.completed}

    def discard(self) -> None:
        """Remove a run that played nothing, so that its folder can be used again."""
        if not self.episodes():
            for name in ("episodes.jsonl", "config.json"):
                (self.path / name).unlink(missing_ok=True)
            with suppress(OSError):  # something else lies in it
                self.path.rmdir()

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json` atomically."""
        write_json(self.summary_path, summary)

    def write_report(self, html: str) -> None:
        """Write `report.html` atomically."""
        write_atomically(self.report_path, html.encode("utf-8", "replace"))


def software_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that can change a result. Loads none of them."""
    found = {"python": platform.python_version(), "platform": sys.platform}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def config_hash(config: dict[str, Any]) -> str:
    """Hash of JSON data, independent of the order of its keys."""
    return blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=16).hexdigest()


def differing(old: Any, new: Any, where: str = "", depth: int = 20) -> list[str]:
    """What differs between two configurations, as "key: old → new" lines; deeper than `depth`, all there is one."""
    if isinstance(old, dict) and isinstance(new, dict) and depth:
        keys = [(key, f"{where}.{key}".lstrip(".")) for key in sorted({*old, *new})]
        return [line for key, name in keys for line in differing(old.get(key), new.get(key), name, depth - 1)]
    return [] if old == new else [f"{where}: {json.dumps(old)} → {json.dumps(new)}"]


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON atomically; raises `RecordWriteError`."""
    write_atomically(path, (json.dumps(data, indent=2) + "\n").encode())


def write_atomically(path: Path, content: bytes, *, follow: bool = False) -> None:
    """Replace a file as a whole: readers, and a power cut, see the old content or the new; raises
    `RecordWriteError`.

    Whatever has the name is replaced, a link too: one in a folder from elsewhere may lead anywhere. With `follow` it
    was the user who typed the path: a link is followed, and what is no file (a pipe, a device) is written to.
    """
    try:
        if follow:
            if path.exists() and not path.is_file():
                path.write_bytes(content)
                return
            path = Path(os.path.realpath(path))
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise RecordWriteError(f"cannot write {path}: {error.strerror}") from error


def run_around(path: Path) -> Path | None:
    """The run folder that `path` lies in, at any depth and through links; None if it lies in none."""
    return next(filter(_holds_run, Path(os.path.realpath(path)).parents), None)


def _holds_run(folder: Path) -> bool:
    """Of any schema version, and damaged or not: only what tells it from a model's folder is looked at."""
    try:
        data = json.loads(read_config(folder / "config.json"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and "schema_version" in data
