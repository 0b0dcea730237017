"""`aem-data webshop`: what it lists, writes and says."""

import json
from pathlib import Path

import pytest

from aem_suite.data_cli import main
from envs_data.webshop import download as download_module


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["webshop", *arguments])
    output = capsys.readouterr()
    return int(stop.value.code or 0), output.out, output.err


def test_ls(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "ls", "--products", "50", "--split", "train", "--n", "3", "--json")
    rows = json.loads(out)
    assert code == 0 and len(rows) == 3 and all(row.keys() == {"task_id", "section", "instruction"} for row in rows)
    assert rows[0]["task_id"].startswith("50/human/")
    code, out, _ = run(capsys, "ls", "--products", "50", "--split", "train", "--n", "3")
    assert [line.split("  ")[0] for line in out.splitlines()] == [row["task_id"] for row in rows]
    code, out, _ = run(capsys, "ls", "--products", "50", "--split", "train", "--n", "1", "--goals", "synthetic")
    assert code == 0 and out.startswith("50/synthetic/")


def test_generated_files_are_a_shop_of_their_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "stats", "--products", "60", "--json")
    generated = json.loads(out)
    assert code == 0 and generated["products"] == 60 == sum(generated["sections"].values())
    goals = sum(generated["goals"][split] for split in ("train", "dev", "test"))
    code, out, _ = run(capsys, "generate", "--products", "60", "--out", str(tmp_path / "shop"))
    assert code == 0 and "60 products" in out and str(tmp_path / "shop") in out
    code, out, _ = run(capsys, "stats", "--source", "official", "--data", str(tmp_path / "shop"), "--json")
    official = json.loads(out)
    assert code == 0 and official["sections"] == generated["sections"] and official["nouns by"].startswith("lexicon-")
    assert official["goals"] == {"kind": "human", "train": 0, "dev": 0, "test": goals}, "the first 500 are for testing"
    assert official["data_hash"] != generated["data_hash"] and Path(official["store"]["folder"]).is_dir()
    code, out, _ = run(capsys, "stats", "--source", "official", "--data", str(tmp_path / "shop"))
    assert code == 0 and f"data_hash: {official['data_hash']}" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls", "--products", "1", "--split", "test"), "no goals in split 'test'; there are: train"),
        (("ls", "--products", "0"), "at least 1"),
        (("stats", "--data", "somewhere"), "source=official"),
        (("stats", "--source", "official", "--data", "/nowhere"), "no such file or folder"),
        (("generate", "--products", "1", "--out", __file__), "cannot be written"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2 and said in err and "Traceback" not in err


def test_download_goes_where_it_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def download(to: Path, **how: object) -> list[str]:
        asked.append((to, how["size"], how["force"]))
        return ["items_shuffle.json"]

    monkeypatch.setattr(download_module, "download", download)
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path / "by variable"))
    code, out, _ = run(capsys, "download", "--size", "all", "--to", str(tmp_path / "here"), "--force")
    assert code == 0 and "items_shuffle.json; set WEBSHOP_DATA=" in out
    run(capsys, "download")
    assert asked == [(tmp_path / "here", "all", True), (tmp_path / "by variable", "1000", False)]
