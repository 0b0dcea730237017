"""Streaming JSON: equal to `json.load` whatever the chunks; every fault typed and placed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs_data.errors import ProductFileError
from envs_data.webshop import stream
from envs_data.webshop.stream import read_items, read_members

RECORDS = [{"a": 'quote " and é', "b": [1.5, None, {"c": "☃" * 20}]}, {}, {"k": "]},{["}, {"e": -1e3}]


def _file(folder: Path, text: str | bytes) -> Path:
    path = folder / "items.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _fault(folder: Path, text: str | bytes, *, members: bool = False) -> str:
    with pytest.raises(ProductFileError) as caught:
        list((read_members if members else read_items)(_file(folder, text)))
    assert "items.json: " in str(caught.value)
    return str(caught.value).split("items.json: ", 1)[1]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_equal_to_json_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None) -> None:
    monkeypatch.setattr(stream, "_CHUNK", chunk)
    for ascii_only in (True, False):
        path = _file(tmp_path, "\ufeff \r\n" + json.dumps(RECORDS, indent=indent, ensure_ascii=ascii_only) + " \n")
        assert list(read_items(path)) == RECORDS
    pairs = {f"key {n} é\n": record for n, record in enumerate(RECORDS)}
    assert list(read_members(_file(tmp_path, json.dumps(pairs, indent=indent)))) == list(pairs.items())
    assert list(read_items(_file(tmp_path, " [ ] "))) == []
    assert list(read_members(_file(tmp_path, '{"a":[1],"a":[2]}'))) == [("a", [1]), ("a", [2])]


@given(st.integers(1, 200))
def test_cut_anywhere_is_told(tmp_path_factory: pytest.TempPathFactory, keep: int) -> None:
    text = json.dumps(RECORDS)
    keep = min(keep, len(text) - 1)
    fault = _fault(tmp_path_factory.mktemp("cut"), text[:keep])
    assert "fetch" in fault.lower() and ("cut off" in fault), fault


def test_faults_name_the_record(tmp_path: Path) -> None:
    assert _fault(tmp_path, "").startswith("expected a list ('[') at its start, and the file ends there")
    assert _fault(tmp_path, '{"a": {}}').startswith("expected a list ('[') at its start; found '{")
    assert _fault(tmp_path, "[]", members=True).startswith("expected an object")
    assert _fault(tmp_path, "<html>quota</html>").startswith("expected a list")
    assert _fault(tmp_path, '[{"a": 1} {"b": 2}]') == """record 1: expected ',' or ']' after it; found '{"b": 2}]'"""
    assert _fault(tmp_path, '[{"a": 1}, {"b" 2}, {"c": "and more text"}]').startswith(
        "record 2: not JSON (Expecting ':'"
    )
    assert _fault(tmp_path, "[{}]{}").startswith("record 1: goes on after its closing ']'")
    assert _fault(tmp_path, "[{},]").startswith("record 2: ")
    assert _fault(tmp_path, '{"a" {}, "more": {"text": 1}}', members=True).startswith(
        "record 1: expected a key in quotes"
    )
    assert _fault(tmp_path, "{3: {}, 4: {}, 5: {}}", members=True).startswith("record 1: expected a key in quotes")
    with pytest.raises(ProductFileError, match="cannot be read"):
        list(read_items(tmp_path))


def test_hostile_text(tmp_path: Path) -> None:
    assert "not UTF-8" in _fault(tmp_path, '[{"a": "é"}]'.encode("latin-1"))
    assert "not UTF-8" in _fault(tmp_path, "[{}]".encode("utf-16"))
    assert "record 1: cannot be read" in _fault(tmp_path, "[" + "[" * 100_000)
    assert "record 2: cannot be read" in _fault(tmp_path, '[{}, {"n": ' + "9" * 5000 + "}]")
    (nan,) = read_items(_file(tmp_path, '[{"rating": NaN}]'))  # the original's reader takes it too
    assert nan["rating"] != nan["rating"]


def test_a_record_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_CHUNK", 10)
    monkeypatch.setattr(stream, "LONGEST", 1000)
    assert "longer than 1000" in _fault(tmp_path, '[{"a": "' + "x" * 5000 + '"}]')
    assert list(read_items(_file(tmp_path, json.dumps([{"a": "x" * 900}] * 3)))) == [{"a": "x" * 900}] * 3


def test_a_long_record_is_not_parsed_over_and_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(json.JSONDecoder):
        tries = 0

        def raw_decode(self, s: str, idx: int = 0) -> tuple[object, int]:
            Counting.tries += 1
            return super().raw_decode(s, idx)

    monkeypatch.setattr(stream, "_CHUNK", 10)
    monkeypatch.setattr(stream, "_DECODER", Counting())
    assert len(list(read_items(_file(tmp_path, json.dumps([{"a": "x" * 100_000}]))))) == 1
    assert Counting.tries < 20  # twice as much text every time, not ten characters more
