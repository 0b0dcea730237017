"""Downloads: resumed, checked, unpacked safely; a plain answer where the internet is out of reach."""

import io
import json
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from envs_data.alfworld.download import Archive, download
from envs_data.errors import DataUnavailableError
from envs_data.fetch import WORKPLACE, BadDownloadError

ONE = Archive("one.zip", "https://example.org/one.zip", "test data")


def _zip(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, text in files.items():
            zipped.writestr(name, text)
    return buffer.getvalue()


GOOD = _zip({"json_2.1.1/train/a/game.tw-pddl": "{}" * 3000, "json_2.1.1/train/a/traj_data.json": "{}"})


class Server:
    """Serves `content`, with ranges; breaks off where told."""

    def __init__(self, content: bytes, *, ranges: bool = True) -> None:
        self.content, self.ranges = content, ranges
        self.break_at: list[int] = []
        self.asked: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        wanted = request.headers.get("range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(self.content):
            return httpx.Response(416, headers={"content-range": f"bytes */{len(self.content)}"})
        body = self.content[start:]
        headers = {"content-length": str(len(body))}
        if start:
            headers["content-range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        return httpx.Response(206 if start else 200, headers=headers, stream=_Body(body, self.break_at))


class _Body(httpx.SyncByteStream):
    def __init__(self, body: bytes, break_at: list[int]) -> None:
        self._body, self._break_at = body, break_at

    def __iter__(self) -> Iterator[bytes]:
        if self._break_at:
            yield self._body[: self._break_at.pop(0)]
            raise httpx.ReadError("connection lost")
        yield self._body


def _get(to: Path, server: object, **options: object) -> list[str]:
    transport = httpx.MockTransport(server)  # type: ignore[arg-type]
    return download(to, archives=[ONE], transport=transport, **options)  # type: ignore[arg-type]


def test_fetch_unpack_and_nothing_the_second_time(tmp_path: Path) -> None:
    server, seen = Server(GOOD), []
    assert _get(tmp_path, server, progress=lambda *what: seen.append(what)) == ["one.zip"]
    assert (tmp_path / "json_2.1.1/train/a/game.tw-pddl").read_text() == "{}" * 3000
    assert seen[-1] == ("one.zip", len(GOOD), len(GOOD))
    assert _get(tmp_path, server) == [] and len(server.asked) == 1
    assert _get(tmp_path, server, force=True) == ["one.zip"]
    assert not list((tmp_path / WORKPLACE).glob("*.part"))


def test_resumes_after_breaks_within_and_between_runs(tmp_path: Path) -> None:
    server = Server(GOOD)
    server.break_at = [40, 30]
    assert _get(tmp_path, server) == ["one.zip"]
    assert server.asked == [None, "bytes=40-", "bytes=70-"]
    other = tmp_path / "other"
    (other / WORKPLACE).mkdir(parents=True)
    (other / WORKPLACE / "one.zip.part").write_bytes(GOOD[:100])  # a run that was killed
    server.asked.clear()
    assert _get(other, server) == ["one.zip"] and server.asked == ["bytes=100-"]
    (other / WORKPLACE / "one.zip.part").write_bytes(GOOD)  # killed after the last byte
    assert _get(other, server, force=True) == ["one.zip"]


def test_server_without_ranges_starts_over(tmp_path: Path) -> None:
    server = Server(GOOD, ranges=False)
    server.break_at = [40]
    assert _get(tmp_path, server) == ["one.zip"]


def test_gives_up_on_a_line_that_keeps_breaking_and_keeps_what_came(tmp_path: Path) -> None:
    server = Server(GOOD)
    server.break_at = [10] * 20
    with pytest.raises(DataUnavailableError, match="connection lost"):
        _get(tmp_path, server)
    assert (tmp_path / WORKPLACE / "one.zip.part").read_bytes() == GOOD[:40]


def test_damaged_archive_is_removed(tmp_path: Path) -> None:
    damaged = bytearray(GOOD)
    damaged[60] ^= 0xFF
    for content in (bytes(damaged), b"<html>not found</html>"):
        with pytest.raises(BadDownloadError, match="damaged"):
            _get(tmp_path, Server(content))
        assert not (tmp_path / "json_2.1.1").exists() and not list((tmp_path / WORKPLACE).glob("*.part"))
    assert _get(tmp_path, Server(GOOD)) == ["one.zip"]


def test_changed_archive_is_refused(tmp_path: Path) -> None:
    _get(tmp_path, Server(GOOD))
    with pytest.raises(BadDownloadError, match="has changed"):
        _get(tmp_path, Server(_zip({"json_2.1.1/train/a/game.tw-pddl": "evil"})), force=True)
    assert (tmp_path / "json_2.1.1/train/a/game.tw-pddl").read_text() == "{}" * 3000


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:evil", "a\\evil", f"{WORKPLACE}/record.json"])
def test_names_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    to = tmp_path / "to"
    with pytest.raises(BadDownloadError, match="no data archive should"):
        _get(to, Server(_zip({"fine": "x", name: "x"})))
    assert not (to / "fine").exists() and {path.name for path in tmp_path.rglob("*") if "evil" in path.name} == set()


def test_links_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "/etc")
    with pytest.raises(BadDownloadError, match="no data archive should"):
        _get(tmp_path / "a", Server(buffer.getvalue()))
    outside, to = tmp_path / "outside", tmp_path / "to"
    outside.mkdir()
    to.mkdir()
    (to / "json_2.1.1").symlink_to(outside)
    with pytest.raises(BadDownloadError, match="outside"):
        _get(to, Server(GOOD))
    assert not list(outside.iterdir())


def test_unreachable_says_how_to_do_it_by_hand(tmp_path: Path) -> None:
    def nowhere(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("name not known")

    with pytest.raises(DataUnavailableError, match=r"json_2\.1\.1_json\.zip .*tw-pddl\.zip elsewhere.*ALFWORLD_DATA"):
        _get(tmp_path, nowhere)
    with pytest.raises(DataUnavailableError, match="answered 404"):
        _get(tmp_path, lambda request: httpx.Response(404))


def test_damaged_record_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / WORKPLACE).mkdir()
    for text in ("{", "[]", '{"one.zip": 3}'):
        (tmp_path / WORKPLACE / "record.json").write_text(text)
        assert _get(tmp_path, Server(GOOD)) == ["one.zip"]
    assert json.loads((tmp_path / WORKPLACE / "record.json").read_text())["one.zip"]["unpacked"] is True
