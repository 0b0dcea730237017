"""Browsers for tests: made where there is one, with their folders where nobody else's are."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import aem_envs
from aem_envs.webshop.browser.guard import PREFIX
from aem_envs.webshop.browser.process import BrowserMissingError


def made(env_id="aem/WebShopBrowser-v0", **settings):
    try:
        return aem_envs.make_env(env_id, **settings)
    except BrowserMissingError as error:
        pytest.skip(f"no browser on this machine: {error}")


@pytest.fixture(autouse=True, scope="module")
def place() -> Iterator[Path]:
    """Browsers of these tests keep their folders where nobody else's are."""
    folder = Path(tempfile.mkdtemp(prefix="aem-t-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        yield folder
    gone(folder)
    folder.rmdir()


def traces(place):
    """Processes that have to do with a browser's folder in `place`, and such folders."""
    name = f"{place}/{PREFIX}".encode()
    found = [str(folder) for folder in place.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name in (process / "cmdline").read_bytes() or name in (process / "environ").read_bytes():
                found.append(f"{process.name} {(process / 'cmdline').read_bytes()[:80]!r}")
    return found


def gone(place, seconds=15.0):
    """Wait until nothing is left."""
    deadline = time.monotonic() + seconds
    while traces(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert traces(place) == []
