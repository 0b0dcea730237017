"""Downloads of the official shop files: checked, resumed, from whichever place has them."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from envs_data.errors import DataUnavailableError
from envs_data.fetch import WORKPLACE, BadDownloadError
from envs_data.webshop.download import FILES, MIRRORS, DataFile, download

GOOD = json.dumps([{"asin": "B000000001"}] * 50).encode()
SHA = hashlib.sha256(GOOD).hexdigest()
ONE, TWO = "https://one.example/items.json", "https://two.example/items.json"
KNOWN = DataFile("items.json", (ONE, TWO), SHA)
UNKNOWN = DataFile("items.json", (ONE, TWO), "")


@dataclass(frozen=True)
class Answer:
    """What a server says; sent as a stream, as from a network."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def response(self) -> httpx.Response:
        stream = httpx.ByteStream(self.body)
        return httpx.Response(self.status, headers=dict(self.headers), stream=_Once(stream))


class _Once(httpx.SyncByteStream):
    def __init__(self, stream: httpx.ByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)


class Places:
    """Answers by address; remembers what was asked, as (address, Range header)."""

    def __init__(self, **answers: Answer | bytes | Exception) -> None:
        self.answers = {"one": answers.get("one"), "two": answers.get("two")}
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        place, wanted = request.url.host.split(".")[0], request.headers.get("range")
        self.asked.append((place, wanted))
        assert request.headers["accept-encoding"] == "identity"
        answer = self.answers[place]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Answer):
            return answer.response()
        assert answer is not None, f"{place} should not be asked"
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(answer):
            return Answer(416, headers=(("content-range", f"bytes */{len(answer)}"),)).response()
        headers = [("content-length", str(len(answer) - start))]
        if start:
            headers.append(("content-range", f"bytes {start}-{len(answer) - 1}/{len(answer)}"))
        return Answer(206 if start else 200, answer[start:], tuple(headers)).response()


def _get(to: Path, places: object, file: DataFile = KNOWN, **options: object) -> list[str]:
    transport = httpx.MockTransport(places)  # type: ignore[arg-type]
    return download(to, files=[file], transport=transport, **options)  # type: ignore[arg-type]


def _page(text: str, kind: str = "text/html; charset=utf-8") -> Answer:
    return Answer(200, f"<!DOCTYPE html><html><body>{text}</body></html>".encode(), (("content-type", kind),))


def test_fetched_once_and_checked_ever_after(tmp_path: Path) -> None:
    places, seen = Places(one=GOOD), []
    assert _get(tmp_path, places, progress=lambda *what: seen.append(what)) == ["items.json"]
    assert (tmp_path / "items.json").read_bytes() == GOOD and seen[-1] == ("items.json", len(GOOD), len(GOOD))
    assert _get(tmp_path, places) == [] and places.asked == [("one", None)]
    assert _get(tmp_path, places, force=True) == ["items.json"]
    assert not list((tmp_path / WORKPLACE).glob("*.part"))
    (tmp_path / "items.json").write_bytes(GOOD[:100])
    with pytest.raises(BadDownloadError, match=r"items\.json is cut off or not the official file .*--force"):
        _get(tmp_path, places)
    assert _get(tmp_path, places, force=True) == ["items.json"]


def test_a_file_placed_by_hand_is_taken(tmp_path: Path) -> None:
    (tmp_path / "items.json").write_bytes(GOOD)
    places = Places()
    assert _get(tmp_path, places) == [] and places.asked == []


def test_a_hash_not_known_is_recorded_on_first_use(tmp_path: Path) -> None:
    _get(tmp_path, Places(one=GOOD), UNKNOWN)
    assert json.loads((tmp_path / WORKPLACE / "record.json").read_text()) == {"items.json": {"sha256": SHA}}
    with pytest.raises(DataUnavailableError, match=r"items\.json has changed: SHA-256"):
        _get(tmp_path, Places(one=b"[1]", two=b"[2]"), UNKNOWN, force=True)
    assert (tmp_path / "items.json").read_bytes() == GOOD, "what was there stays"
    (tmp_path / "items.json").write_bytes(b"[]")
    with pytest.raises(BadDownloadError, match="expected " + SHA):
        _get(tmp_path, Places(), UNKNOWN)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (_page("Sorry: Quota exceeded for this file"), "its download quota is used up"),
        (_page("Google Drive can't scan this file: virus scan warning"), "asks a person to confirm"),
        (_page("Sign in"), "a web page came instead of the file"),
        (
            _page("of no such type", "application/octet-stream"),
            "is not JSON",
        ),
        (Answer(), "is not JSON"),
        (b'[{"asin": "evil"}]', "items.json has changed"),
        (Answer(404), "the server answered 404"),
        (Answer(200, b"(", (("content-encoding", "zstd"),)), r"packed \(zstd\)"),
        (Answer(302, headers=(("location", ONE),)), "redirects"),
        (httpx.ConnectError("name not known"), "name not known"),
        (httpx.ReadError("connection lost"), "connection lost"),
    ],
)
def test_the_next_place_is_asked_and_reasons_are_kept(
    tmp_path: Path, answer: Answer | bytes | Exception, reason: str
) -> None:
    places = Places(one=answer, two=GOOD)
    assert _get(tmp_path / "a", places) == ["items.json"] and places.asked[-1][0] == "two"
    assert (tmp_path / "a" / "items.json").read_bytes() == GOOD
    with pytest.raises(DataUnavailableError, match=rf"https://one\.example/items\.json: .*{reason}"):
        _get(tmp_path / "b", Places(one=answer, two=Answer(503)))
    assert not (tmp_path / "b" / "items.json").exists()


def test_resumes_and_starts_over_where_the_rest_does_not_fit(tmp_path: Path) -> None:
    work = tmp_path / WORKPLACE
    work.mkdir()
    (work / "items.json.part").write_bytes(GOOD[:100])  # a run that was killed
    places = Places(one=GOOD)
    assert _get(tmp_path, places) == ["items.json"] and places.asked == [("one", "bytes=100-")]
    (work / "items.json.part").write_bytes(b"x" * 100)  # of something else
    places = Places(one=GOOD)
    assert _get(tmp_path, places, force=True) == ["items.json"]
    assert places.asked == [("one", "bytes=100-"), ("one", None)]
    (work / "items.json.part").write_bytes(GOOD[:100])
    places = Places(one=_page("quota"), two=GOOD)  # the page does not spoil what is there
    assert _get(tmp_path, places, force=True) == ["items.json"]
    assert places.asked == [("one", "bytes=100-"), ("two", "bytes=100-")]


def test_out_of_reach_says_what_to_do(tmp_path: Path) -> None:
    def nowhere(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("name not known")

    with pytest.raises(DataUnavailableError) as caught:
        download(tmp_path, size="1000", transport=httpx.MockTransport(nowhere))
    message = str(caught.value)
    for name in ("items_human_ins.json", "items_ins_v2_1000.json", "items_shuffle_1000.json"):
        assert f"{name} ({MIRRORS[0]}{name})" in message
    assert message.endswith(f"put them into {tmp_path}, and set WEBSHOP_DATA={tmp_path}")
    assert "https://drive.usercontent.google.com/download?" in message


def test_the_table_of_files() -> None:
    assert {size: [file.name for file in files] for size, files in FILES.items()} == {
        "1000": ["items_human_ins.json", "items_ins_v2_1000.json", "items_shuffle_1000.json"],
        "all": ["items_human_ins.json", "items_ins_v2.json", "items_shuffle.json"],
    }
    for files in FILES.values():
        for file in files:
            assert len(file.sha256) == 64 and int(file.sha256, 16) and len(file.urls) == 3
            assert all(url.startswith("https://") for url in file.urls)
