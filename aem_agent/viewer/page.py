"""The page itself: this room's style sheet and scripts, allowed by hash, around data that are base64 and nothing else.

Its content security policy allows no request, no other script or style, and no markup made from strings (trusted
types). The scripts put every text into the page as text.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from aem_agent.files import replacing
from aem_agent.records import RecordWriteError
from aem_agent.viewer.chunks import ChunkWriter, packed
from aem_envs.sanitize import for_html

SCRIPTS = ("dom", "data", "rows", "filters", "list", "chart", "pane", "episode", "compare", "keys", "main")
"""Files of the page's script, in the order that they need one another."""


@cache
def _parts() -> tuple[str, str, str]:
    """(the skeleton, the style sheet, the script)."""
    folder = Path(__file__).parent
    style = (folder / "viewer.css").read_text("utf-8")
    body = "\n".join((folder / "js" / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{body}\n}})();\n'
    return (folder / "viewer.html").read_text("utf-8"), style, script


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def policy() -> str:
    """The page's content security policy."""
    _, style, script = _parts()
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def replaceable(path: Path) -> bool:
    """Whether a page may take this path: nothing is there, or a page that `write_page` wrote."""
    mark = _parts()[0].partition("@@POLICY@@")[0] + policy().partition("'sha256-")[0]
    try:
        if not path.exists():
            return True
        if not path.is_file():  # a folder, a pipe, a device
            return False
        with path.open("rb") as file:
            return file.read(len(mark)) == mark.encode()
    except OSError:
        return False


def write_page(path: Path, title: str, head: Mapping[str, Any], runs: Sequence[ChunkWriter]) -> None:
    """Write the file as a whole: `head` (JSON data: the lists of episodes) and the chunks of each run, which come last,
    so that a browser shows the list before it has read them.

    Raises:
        RecordWriteError: the disk is full, or the folder refuses.
    """
    skeleton, style, script = _parts()
    given = {
        "POLICY": policy(),
        "TITLE": for_html(title),
        "STYLE": style,
        "SCRIPT": script,
        "HEAD": packed(head).decode(),
    }
    before, after = skeleton.split("@@CHUNKS@@")
    before = re.sub("@@([A-Z]+)@@", lambda name: given[name[1]], before)  # in one pass: what is put in is not looked at
    try:
        with replacing(path) as out:
            out.write(before.encode())
            for number, chunks in enumerate(runs):
                _chunks(out, number, chunks)
            out.write(after.encode())
    except OSError as error:
        raise RecordWriteError(f"cannot write {path}: {error.strerror}; name another place with --out") from error


def _chunks(out: IO[bytes], run: int, chunks: ChunkWriter) -> None:
    # of a type that no browser runs: a data block
    chunks.copy(out, b'<script type="text/plain" id="chunk-%d-%%d">' % run, b"</script>\n")
