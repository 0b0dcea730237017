"""A sandbox for tests: files in memory, and commands whose results the test gives. Nothing runs."""

import base64
import difflib
import hashlib
import io
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from aem_envs.swebench.sandbox.api import REPOSITORY, Limits, Result, Room, SandboxError

Answer = Result | str | tuple[str, int]
"""What a command gives: all of it, or its output with exit code 0, or its output and exit code."""
Answers = Mapping[str, Answer] | Callable[["FakeSandbox", str], Answer]


class FakeSandbox:
    """A `Sandbox` (see `api`) that is a dict.

    `files` holds contents by absolute path, and is the test's to read and change. Modes and links are not kept.
    """

    def __init__(self, room: Room, limits: Limits | None = None, *, commands: Answers | None = None) -> None:
        """`commands` answers `run`: a dict by command, or a function that may use the sandbox's `put` and `get`.

        A command that a dict does not have gives exit code 127.
        """
        self.room, self.limits = room, limits or Limits()
        self.isolation, self.repository, self.scratch = "", REPOSITORY, "/tmp"
        self.files: dict[str, bytes] = {}
        self.ran: list[str] = []
        """Every command, in order."""
        self._commands: Answers = commands if commands is not None else {}
        self._first: dict[str, bytes] | None = None

    def start(self) -> None:
        """See `Sandbox.start`; regular files of the room's repository are read, .git left out."""
        self.files, self.isolation = {}, "fake"
        if self.room.repository is not None:
            self.files = {f"{REPOSITORY}/{name}": data for name, data in _read(self.room.repository).items()}
        self._first = dict(self.files)

    def run(self, command: str, *, timeout: float) -> Result:
        """See `Sandbox.run`; `timeout` has no effect."""
        self._opened()
        self.ran.append(command)
        if callable(self._commands):
            answer = self._commands(self, command)
        else:
            answer = self._commands.get(command, (f"bash: line 1: {command}: command not found\n", 127))
        if isinstance(answer, Result):
            return answer
        output, code = (answer, 0) if isinstance(answer, str) else answer
        return Result(output, code, 0.0)

    def put(self, path: str, data: bytes) -> None:
        """See `Sandbox.put`."""
        self._opened()
        target = _absolute(path)
        if any(name.startswith(f"{target}/") for name in self.files):
            raise SandboxError(f"put {path}: it is a folder")
        self.files[target] = bytes(data)

    def get(self, path: str, *, limit: int = 16_000_000) -> bytes:
        """See `Sandbox.get`."""
        self._opened()
        data = self.files.get(_absolute(path))
        if data is None:
            raise SandboxError(f"get {path}: no such file")
        if len(data) > limit:
            raise SandboxError(f"get {path}: {len(data)} bytes, more than {limit}")
        return data

    def diff(self) -> bytes:
        """See `Sandbox.diff`; bytecode is left out, .gitignore has no effect."""
        old, new = _tracked(self._opened()), _tracked(self.files)
        names = sorted({*old, *new})
        patch = b"".join(_file_diff(name, old.get(name), new.get(name)) for name in names)
        if len(patch) > self.limits.output_bytes:
            raise SandboxError(f"diff: a patch of {len(patch)} bytes, more than {self.limits.output_bytes}")
        return patch

    def snapshot(self) -> bytes:
        """See `Sandbox.snapshot`."""
        self._opened()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in sorted(self.files.items()):
                if name.startswith(f"{REPOSITORY}/"):
                    entry = tarfile.TarInfo(f".{name.removeprefix(REPOSITORY)}")
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()

    def restore(self, snapshot: bytes) -> None:
        """See `Sandbox.restore`."""
        self._opened()
        found = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(snapshot)) as archive:
                for entry in archive:
                    if (file := archive.extractfile(entry)) is not None:
                        found[posixpath.normpath(f"{REPOSITORY}/{entry.name}")] = file.read()
        except tarfile.TarError as error:
            raise SandboxError(f"restore: {error}") from error
        others = {name: data for name, data in self.files.items() if not name.startswith(f"{REPOSITORY}/")}
        self.files = others | found

    def close(self) -> None:
        """See `Sandbox.close`."""
        self.files, self._first = {}, None

    def _opened(self) -> dict[str, bytes]:
        if self._first is None:
            raise SandboxError("the sandbox is not open: call start()")
        return self._first


def _absolute(path: str) -> str:
    return posixpath.normpath(posixpath.join(REPOSITORY, path))


def _read(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(".git/")}


def _tracked(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files of the repository by relative path."""
    inside = {name.removeprefix(f"{REPOSITORY}/"): data for name, data in files.items() if name.startswith(REPOSITORY)}
    return {name: data for name, data in inside.items() if ".git" not in name.split("/") and not name.endswith(".pyc")}


def _file_diff(name: str, old: bytes | None, new: bytes | None) -> bytes:
    """One file's part of a patch in git's format; None: there is no such file."""
    if old == new:
        return b""
    head = [f"diff --git a/{name} b/{name}"]
    head += ["new file mode 100644"] if old is None else ["deleted file mode 100644"] if new is None else []
    head += [f"index {_blob(old)}..{_blob(new)}" + (" 100644" if old is not None and new is not None else "")]
    before, after = old or b"", new or b""
    if b"\0" in before + after:
        body = b"GIT binary patch\n" + _literal(after) + _literal(before)
    else:
        body = _text(name, before, after, old is None, new is None)
    return "\n".join([*head, ""]).encode() + body


def _text(name: str, before: bytes, after: bytes, is_new: bool, is_gone: bool) -> bytes:
    if before == after:
        return b""
    names = b"/dev/null" if is_new else f"a/{name}".encode(), b"/dev/null" if is_gone else f"b/{name}".encode()
    lines = difflib.diff_bytes(difflib.unified_diff, _lines(before), _lines(after), *names)
    return b"".join(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines)


def _lines(data: bytes) -> list[bytes]:
    """Split at line feeds only, as git does; every line keeps its own."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _blob(data: bytes | None) -> str:
    """git's name for contents."""
    return "0" * 40 if data is None else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _literal(data: bytes) -> bytes:
    """Contents as git writes them in a binary patch: 52 bytes a line, each line led by its length as a letter."""
    packed = zlib.compress(data)
    lines = [b"literal %d" % len(data)]
    for start in range(0, len(packed), 52):
        piece = packed[start : start + 52]
        size = len(piece)
        letter = chr(ord("A") + size - 1) if size <= 26 else chr(ord("a") + size - 27)
        lines.append(letter.encode() + base64.b85encode(piece + b"\0" * (-size % 4)))
    return b"\n".join([*lines, b"", b""])
