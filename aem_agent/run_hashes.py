"""Hashes that a run records of what it was played with, so that a resumed or compared one can tell."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from aem_agent.files import open_to_read
from aem_agent.types import AgentError


class UnreadableFilesError(AgentError):
    """A model's, a tokenizer's or a script's files cannot be read; the message says which."""


def run_hashes(task_ids: Sequence[str], model: str, tokenizer: str | None = None) -> dict[str, str]:
    """`tasks`: over the task ids in order; `model`: over the files of a model folder, or the script; `tokenizer`: over
    the files of its folder. 16 hex digits each; raises `UnreadableFilesError`."""
    ids = "\n".join(task_ids).encode("utf-8", "surrogatepass")
    hashes = {"tasks": hashlib.sha256(ids).hexdigest()[:16]}
    if (path := Path(model.removeprefix("scripted:"))).exists():
        hashes["model"] = files_hash(path)
    if tokenizer is not None:
        hashes["tokenizer"] = files_hash(Path(tokenizer))
    return hashes


def files_hash(path: Path) -> str:
    """SHA-256 over a file, or over names and contents of a model folder's configuration and weights; 16 hex digits.

    Raises:
        UnreadableFilesError: one of them is no file, or may not be read.
    """
    kinds = {".json", ".safetensors", ".txt", ".jinja"}
    files = sorted(f for f in path.iterdir() if f.suffix in kinds) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        try:
            with open_to_read(file) as content:
                digest.update(f"{file.name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise UnreadableFilesError(f"cannot read {file}: {error.strerror}") from error
    return digest.hexdigest()[:16]
