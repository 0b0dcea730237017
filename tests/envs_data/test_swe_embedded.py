"""The manifest of embedded tasks: as many as promised, fairly divided, and nothing given away."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envs_data.errors import UnknownSplitError, UnknownTaskError
from envs_data.swebench import embedded
from envs_data.swebench.embedded import SPLITS, WHOLE, data_folder, instance, split_of, task_ids
from envs_data.swebench.issues import quotes
from envs_data.swebench.packages import PACKAGES, is_source, package_named

ALL = [task_id for split in SPLITS for task_id in task_ids(split)]


def changed(patch: str) -> list[str]:
    """The lines that a patch takes out and puts in."""
    return [line[1:] for line in patch.split("\n") if re.match(r"[+-](?![+-]{2} )", line)]


def test_there_are_as_many_as_promised() -> None:
    assert len(ALL) == len(set(ALL)) >= 200
    assert len({embedded.package_of(task_id) for task_id in ALL}) >= 5
    assert len(task_ids("train")) >= 100 and len(task_ids("dev")) >= 20 and len(task_ids("test")) >= 50
    assert len({instance(task_id).extra["task_type"] for task_id in ALL}) >= 12


def test_no_function_is_in_two_splits_and_whole_packages_are_held_out() -> None:
    where: dict[tuple[str, str, str], set[str]] = {}
    packages: dict[str, set[str]] = {split: set() for split in SPLITS}
    for task_id in ALL:
        one = instance(task_id)
        path = re.findall(r"^\+\+\+ b/(.*)$", one.patch, re.MULTILINE)
        outermost = one.extra["function"].partition(".<locals>")[0]
        where.setdefault((one.extra["package"], path[0], outermost), set()).add(split_of(task_id))
        packages[split_of(task_id)].add(one.extra["package"])
    assert all(len(splits) == 1 for splits in where.values())
    assert packages["dev"] - packages["train"] and packages["test"] - packages["train"]
    for package, split in WHOLE.items():
        assert [other for other in SPLITS if package in packages[other]] == [split]


@pytest.mark.parametrize("task_id", ALL)
def test_a_task_is_sound(task_id: str) -> None:
    one = instance(task_id)
    package = package_named(one.extra["package"])
    assert re.fullmatch(rf"{package.name}-\d{{4}}", task_id) and split_of(task_id) == one.extra["split"]
    assert 1 <= len(one.FAIL_TO_PASS) <= 20 and not set(one.FAIL_TO_PASS) & set(one.PASS_TO_PASS)
    assert all("::" in test and not re.search(r"\s", test) for test in (*one.FAIL_TO_PASS, *one.PASS_TO_PASS))
    assert re.fullmatch(r"[0-9a-f]{40}", one.base_commit) and one.eval_script.count(one.base_commit) == 2
    paths = re.findall(r"^(?:---|\+\+\+) [ab]/(.*)$", one.patch, re.MULTILINE)
    assert len(paths) == 2 and paths[0] == paths[1] and is_source(package, paths[0])
    assert len(changed(one.patch)) == 2, "one line becomes another"


@pytest.mark.parametrize("task_id", ALL)
def test_an_issue_gives_nothing_away(task_id: str) -> None:
    one = instance(task_id)
    text = one.problem_statement
    assert len(text) > 150 and text[0].strip() and "```" in text and text.isprintable() is False
    assert not any(quotes(text, line) for line in changed(one.patch))
    path = re.findall(r"^\+\+\+ b/(.*)$", one.patch, re.MULTILINE)[0]
    assert path not in text and not re.search(r"\.py:\d|\bline \d", text)
    assert not re.search(r"/(?:tmp|home|root|work|testbed)/|\bat 0x[0-9a-f]|pytest-of-", text)


def test_the_manifest_is_small_and_has_its_licences() -> None:
    files = [path for path in data_folder().iterdir() if path.suffix in (".json", ".txt")]
    assert max(path.stat().st_size for path in files) < 1_000_000
    assert sum(path.stat().st_size for path in files) < 1_500_000
    notices = (data_folder() / "NOTICES.txt").read_text("utf-8")
    for package in PACKAGES.values():
        assert f"{package.name} {package.version} ({package.licence})" in notices
    assert notices.count("Copyright") >= len(PACKAGES)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownSplitError, match="train, dev, test"):
        task_ids("valid")
    for name in ("toolz-9999", "numpy-0001", "../toolz-0001", ""):
        with pytest.raises(UnknownTaskError, match="unknown embedded task"):
            instance(name)


def test_a_hash_stands_for_the_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = embedded.manifest_hash()
    shutil.copytree(embedded.data_folder(), tmp_path / "data")
    monkeypatch.setattr(embedded, "data_folder", lambda: tmp_path / "data")
    assert re.fullmatch(r"[0-9a-f]{16}", first) and embedded.manifest_hash.__wrapped__() == first
    (tmp_path / "data/toolz.json").write_bytes((tmp_path / "data/toolz.json").read_bytes() + b" ")
    assert embedded.manifest_hash.__wrapped__() != first


def test_a_damaged_manifest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "data_folder", lambda: tmp_path)
    read = embedded._manifest.__wrapped__
    (tmp_path / "toolz.json").write_text("{")
    with pytest.raises(embedded.ManifestError, match="damaged"):
        read("toolz")
    (tmp_path / "toolz.json").write_text(json.dumps({"version": "0", "sha256": "0", "tests": [], "tasks": []}))
    with pytest.raises(embedded.ManifestError, match="another archive"):
        read("toolz")


def test_swebench_takes_every_task() -> None:
    utils = pytest.importorskip("swebench.harness.utils", reason="swebench is not installed")
    for task_id in ALL:
        one = instance(task_id)
        spec = utils.make_test_spec(json.loads(json.dumps(one.row())))
        assert list(one.FAIL_TO_PASS) == spec.FAIL_TO_PASS and "SWEBENCH" not in one.problem_statement
        assert "Start Test Output" in spec.eval_script and "End Test Output" in spec.eval_script


def test_reading_needs_the_standard_library_only() -> None:
    code = (
        "import sys; from envs_data.swebench import embedded as e; e.instance(e.task_ids('train')[0]); "
        "print([n for n in ('swebench', 'docker', 'httpx', 'numpy', 'gymnasium', 'subprocess') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
