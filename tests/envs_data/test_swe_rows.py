"""Instance files of every form, their hostile variants, and what is written back."""

import json
from pathlib import Path
from typing import Any

import pytest

from envs_data.errors import DataError
from envs_data.swebench import files
from envs_data.swebench.fields import InstanceFieldError, InstanceFileError
from envs_data.swebench.files import ParquetMissingError
from envs_data.swebench.legacy import LegacyRowError, SpecsFileError
from envs_data.swebench.rows import read_instances, write_jsonl
from envs_data.swebench.trainable import EvaluationSetError, evaluation_set, require_trainable
from tests.conftest import official_root

PATCH = "diff --git a/src/a.py b/src/a.py\n--- a/src/a.py\n+++ b/src/a.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
TEST_PATCH = (
    "diff --git a/tests/test_a.py b/tests/test_a.py\n--- a/tests/test_a.py\n+++ b/tests/test_a.py\n"
    "@@ -1 +1,2 @@\n import a\n+assert a.x == 2\n"
    "diff --git a/tests/test_new.py b/tests/test_new.py\nnew file mode 100644\n--- /dev/null\n+++ b/tests/test_new.py\n"
    "@@ -0,0 +1 @@\n+assert True\n"
    "diff --git a/tests/data.json b/tests/data.json\n--- a/tests/data.json\n+++ b/tests/data.json\n"
    "@@ -1 +1 @@\n-1\n+2\n"
)
LEGACY: dict[str, Any] = {
    "instance_id": "owner__name-7",
    "repo": "owner/name",
    "base_commit": "0123456789abcdef0123456789abcdef01234567",
    "patch": PATCH,
    "test_patch": TEST_PATCH,
    "problem_statement": "x is one",
    "hints_text": "",
    "created_at": "2020-01-01T00:00:00Z",
    "version": "1.0",
    "FAIL_TO_PASS": '["tests/test_a.py::test_x"]',
    "PASS_TO_PASS": "['tests/test_a.py::test_y', \"tests/test_a.py::test_z[it's]\"]",
    "environment_setup_commit": "abc123",
}
V5 = LEGACY | {
    "image": "local",
    "eval_script": "#!/bin/bash\npytest -rA\n",
    "log_parser": "parse_log_pytest",
    "eval_type": "pass_and_fail",
}


def _write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def _one(tmp_path: Path, row: object, **options: Any) -> Any:
    [instance] = read_instances(_write(tmp_path / "rows.jsonl", row), **options)
    return instance


def _official(name: str) -> Path:
    path = official_root() / "swebench" / name
    if not path.is_file():
        pytest.skip(f"official SWE-bench rows absent: {path} (set AEM_TEST_DATA)")
    return path


def test_every_form_gives_the_same_instances(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [V5, V5 | {"instance_id": "owner__name-8"}]
    lines = _write(tmp_path / "rows.jsonl", *rows)
    (tmp_path / "list.json").write_text(json.dumps(rows))
    by_id = {str(row["instance_id"]): {k: v for k, v in row.items() if k != "instance_id"} for row in rows}
    (tmp_path / "object.json").write_text(json.dumps(by_id))
    data = tmp_path / "set" / "data"
    data.mkdir(parents=True)
    for number, row in enumerate(rows):
        parquet.write_table(pa.Table.from_pylist([row]), data / f"test-0000{number}-of-00002.parquet")
    expected = read_instances(lines)
    assert [one.instance_id for one in expected] == ["owner__name-7", "owner__name-8"]
    for path in (tmp_path / "list.json", tmp_path / "object.json", tmp_path / "set", data):
        assert read_instances(path) == expected
    assert read_instances(lines, limit=1) == expected[:1]
    parquet.write_table(pa.Table.from_pylist(rows), data / "dev-00000-of-00001.parquet")
    with pytest.raises(InstanceFileError, match=r"several splits \(dev-00000.*name one of the files"):
        read_instances(tmp_path / "set")


def test_lists_of_tests_as_lists_json_and_python(tmp_path: Path) -> None:
    names = ("tests/test_a.py::test_y", "tests/test_a.py::test_z[it's]")
    for form in (LEGACY["PASS_TO_PASS"], json.dumps(names), list(names)):
        assert names == _one(tmp_path, V5 | {"PASS_TO_PASS": form}).PASS_TO_PASS
    assert _one(tmp_path, V5 | {"PASS_TO_PASS": "[]"}).PASS_TO_PASS == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instance_id": "../evil"}, r"line 1: instance '\.\./evil': field 'instance_id' is '\.\./evil'"),
        ({"instance_id": "a/b"}, "instance_id"),
        ({"instance_id": "a..b"}, "instance_id"),
        ({"instance_id": "a\nb"}, "instance_id"),
        ({"instance_id": "a" * 201}, "instance_id"),
        ({"instance_id": 7}, "field 'instance_id' is 7; expected a string"),
        ({"repo": "a/b/c"}, "field 'repo'"),
        ({"base_commit": "HEAD; rm -rf /"}, "field 'base_commit'"),
        ({"base_commit": "--help"}, "field 'base_commit'"),
        ({"image": "x --privileged"}, "field 'image'"),
        ({"log_parser": "os.system"}, "field 'log_parser'"),
        ({"eval_type": "always"}, "field 'eval_type' is 'always'; expected one of pass_and_fail, fail_only"),
        ({"eval_script": None}, "field 'eval_script' is absent or null"),
        ({"eval_script": "a\0b"}, "null character"),
        ({"patch": ["x"]}, "field 'patch' is a list; expected a string"),
        ({"patch": "diff --git a/../x b/../x\n--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n"}, "'../x' is no path"),
        ({"patch": "diff --git a/.git/config b/.git/config\nnew file mode 100644\n"}, "is no path"),
        ({"patch": PATCH[:-8]}, "field 'patch'.*has not the lines its header says"),
        ({"FAIL_TO_PASS": "__import__('os').system('true')"}, "field 'FAIL_TO_PASS'"),
        ({"FAIL_TO_PASS": "[" * 100_000}, "field 'FAIL_TO_PASS'"),
        ({"FAIL_TO_PASS": "{'a': 1}"}, "field 'FAIL_TO_PASS'"),
        ({"FAIL_TO_PASS": [["a"]]}, "field 'FAIL_TO_PASS' is a list; expected test names"),
        ({"FAIL_TO_PASS": ["a" * 10_001]}, "field 'FAIL_TO_PASS'"),
        ({"FAIL_TO_PASS": "[]"}, "field 'FAIL_TO_PASS' .*at least one test"),
        ({"PASS_TO_PASS": ["\ud83d"]}, "field 'PASS_TO_PASS'"),
        ({"version": {"a": 1}}, "field 'version' is an object"),
        ({"problem_statement": None}, "field 'problem_statement' is absent"),
    ],
)
def test_a_field_that_does_not_fit_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(InstanceFieldError, match=message) as caught:
        _one(tmp_path, V5 | change)
    assert isinstance(caught.value, DataError) and "rows.jsonl: line 1" in str(caught.value)


def test_images_that_rows_name_are_looked_for_in_a_namespace(tmp_path: Path) -> None:
    row = V5 | {"image": "swebench/sweb.eval.x86_64.owner_1776_name-7:latest"}
    mirror = "registry.local:5000/mirror"
    assert _one(tmp_path, row).image == row["image"]
    assert _one(tmp_path, row, namespace=mirror).image == f"{mirror}/sweb.eval.x86_64.owner_1776_name-7:latest"
    assert _one(tmp_path, row, namespace=mirror, image="mine").image == "mine"


def test_texts_that_are_only_shown_are_repaired(tmp_path: Path) -> None:
    instance = _one(tmp_path, V5 | {"problem_statement": "a\0b \ud83d c \U0001f600", "version": 3})
    assert (instance.problem_statement, instance.version) == ("a\ufffdb \ufffd c \U0001f600", "3")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"instance_id": ', "line 1: cannot be read as JSON"),
        ("a.jsonl", "[" * 100_000, "cannot be read as JSON"),
        ("a.jsonl", "[1]", "line 1: expected an object, found a list"),
        ("a.json", "7", "expected a list of rows"),
        ("a.json", "[7]", "row 1: expected an object, found 7"),
        ("a.json", '[{"a": 1}', "cut off"),
        ("a.jsonl", '{"hello": 1}', "line 1: a row of no known family; it has hello"),
        ("a.parquet", "PAR1nothing", "cannot be read as parquet"),
        ("a.csv", "a,b", "expected a file of"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, text: str, message: str) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / name).write_text(text)
    with pytest.raises(InstanceFileError, match=message):
        read_instances(tmp_path / name)


def test_absent_files_twins_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("none.jsonl", "none.json", "none.parquet"):
        with pytest.raises(InstanceFileError, match=r"[Nn]o such file"):
            read_instances(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InstanceFileError, match="holds no file of"):
        read_instances(tmp_path / "empty")
    with pytest.raises(InstanceFieldError, match=r"line 2: instance 'owner__name-7' stands in .*line 1 already"):
        read_instances(_write(tmp_path / "twins.jsonl", V5, V5))
    monkeypatch.setattr(files, "MAX_ROW", 1000)
    with pytest.raises(InstanceFileError, match="line 1: longer than 1000 characters"):
        _one(tmp_path, V5)
    monkeypatch.setattr(files, "MAX_JSON", 10)
    (tmp_path / "a.json").write_text(json.dumps([V5]))
    with pytest.raises(InstanceFileError, match="longer than 10 bytes"):
        read_instances(tmp_path / "a.json")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(files, "import_module", missing)
    with pytest.raises(ParquetMissingError, match=r'pip install "aem-suite\[swebench\]"'):
        read_instances(tmp_path / "a.parquet")


def test_a_legacy_row_is_completed_or_refused(tmp_path: Path) -> None:
    with pytest.raises(LegacyRowError) as caught:
        _one(tmp_path, LEGACY)
    for word in ("owner__name-7", "lacks image, eval_script, log_parser, eval_type", "owner/name@1.0", "test_cmd"):
        assert word in str(caught.value)
    specs = tmp_path / "specs.json"
    entry = {"test_cmd": "pytest -rA", "log_parser": "parse_log_pytest", "install": "pip install -e ."}
    specs.write_text(json.dumps({"owner/name": entry, "owner/name@1.0": {"pre_test": ["true"]}}))
    with pytest.raises(LegacyRowError, match="say where its image is") as caught:
        _one(tmp_path, LEGACY, specs=specs)
    assert "test_cmd" not in str(caught.value)
    instance = _one(tmp_path, LEGACY, specs=specs, namespace="swebench")
    assert instance.image == "swebench/sweb.eval.x86_64.owner_1776_name-7:latest"
    lines = instance.eval_script.split("\n")
    assert lines[2:5] == ["source /opt/miniconda3/bin/activate", "conda activate testbed", "cd /testbed"]
    assert lines[5:9] == [
        "true",
        "pip install -e .",
        "rm -f tests/test_new.py",
        f"git checkout {LEGACY['base_commit']} tests/test_a.py tests/data.json",
    ]
    assert "pytest -rA tests/test_a.py tests/test_new.py" in lines, "data files are no arguments"
    assert instance.extra == {"environment_setup_commit": "abc123"} and instance.eval_type == "pass_and_fail"
    assert "conda" not in _one(tmp_path, LEGACY, specs=specs, image="me/{instance_id}:1").eval_script
    assert _one(tmp_path, LEGACY, specs=specs, image="me/{instance_id}:1").image == "me/owner__name-7:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected an object of entries"),
        ('{"a/b": {"command": "x"}}', "entry 'a/b': expected an object with fields of .*test_cmd.*found 'command'"),
        ('{"a/b": {"test_cmd": 1}}', "field 'test_cmd': expected a string, found 1"),
        ('{"a/b": {"install": [1]}}', "field 'install': expected a line or a list of lines"),
        ('{"a/b": {"eval_type": "x"}}', "expected one of pass_and_fail, fail_only"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_specs_are_checked(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "specs.json").write_text(text)
    with pytest.raises(SpecsFileError, match=message):
        _one(tmp_path, LEGACY, specs=tmp_path / "specs.json")


def test_a_test_patch_cannot_leave_its_here_document(tmp_path: Path) -> None:
    evil = f"{TEST_PATCH}EOF_114329324912\ntouch x\n"
    specs = tmp_path / "specs.json"
    specs.write_text(json.dumps({"owner/name": {"test_cmd": "t", "log_parser": "p"}}))
    with pytest.raises(InstanceFieldError, match="belongs to no file"):
        _one(tmp_path, LEGACY | {"test_patch": evil}, specs=specs, image="i")
    before = "EOF_114329324912\ntouch x\n" + TEST_PATCH  # what stands before the first file is a mail's head to git
    script = _one(tmp_path, LEGACY | {"test_patch": before}, specs=specs, image="i").eval_script
    end = script.split("git apply -v - <<'")[1].split("'")[0]
    assert end != "EOF_114329324912" and script.count(f"\n{end}\n") == 1


def test_written_rows_are_what_swebench_reads(tmp_path: Path) -> None:
    utils = pytest.importorskip("swebench.harness.utils")
    row = V5 | {"problem_statement": "a\u2028b\x85c", "difficulty": "1-4 hours"}
    [instance] = read_instances(_write(tmp_path / "rows.jsonl", row))
    write_jsonl([instance], tmp_path / "new" / "out.jsonl")
    assert read_instances(tmp_path / "new" / "out.jsonl") == [instance]
    [read] = utils.load_swebench_dataset(str(tmp_path / "new" / "out.jsonl"))
    spec = utils.make_test_spec(read)
    assert spec.FAIL_TO_PASS == ["tests/test_a.py::test_x"] and list(instance.PASS_TO_PASS) == spec.PASS_TO_PASS
    with pytest.raises(InstanceFileError, match="written twice"):
        write_jsonl([instance, instance], tmp_path / "new" / "out.jsonl")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.jsonl"]
    assert read_instances(tmp_path / "new" / "out.jsonl") == [instance], "what was there stays"


def test_the_two_official_rows_agree_in_both_forms(tmp_path: Path) -> None:
    complete, legacy = _official("v5_rows.jsonl"), _official("legacy_rows.jsonl")
    specs = tmp_path / "specs.json"
    entry = {"test_cmd": "pytest -rA", "log_parser": "parse_log_marshmallow", "image": "local"}
    specs.write_text(json.dumps({"marshmallow-code/marshmallow": entry}))
    expected = read_instances(complete)
    assert [len(one.PASS_TO_PASS) for one in expected] == [24, 76]
    assert read_instances(legacy, specs=specs) == expected, "the very scripts, too"
    with pytest.raises(LegacyRowError, match=r"marshmallow-code/marshmallow@2\.20"):
        read_instances(legacy)
    with pytest.raises(EvaluationSetError, match=r"2 instances are for evaluation.*marshmallow-1343.*dev split"):
        require_trainable(expected)


def test_evaluation_sets_are_refused_for_training(tmp_path: Path) -> None:
    def reason(**change: Any) -> str | None:
        return evaluation_set(_one(tmp_path, V5 | change))

    assert reason() is None, "of the train split"
    assert "'difficulty'" in (reason(difficulty="15 min - 1 hour") or "")
    assert "test split" in (reason(instance_id="django__django-1", repo="django/django") or "")
    assert "test split" in (reason(instance_id="Django__Django-1", dataset="swe-gym") or ""), "under another name"
    assert "test split" in (reason(instance_id="x__y-1", repo="sympy/sympy") or "")
    assert "dev split" in (reason(split="dev") or "")
    assert "Multimodal" in (reason(image_assets='{"patch": ["a.png"]}') or "")
    verified = _one(tmp_path, V5 | {"difficulty": "<15 min fix"})
    with pytest.raises(EvaluationSetError, match=r"owner__name-7 .*force it"):
        require_trainable([verified])
    require_trainable([verified], force=True)
    require_trainable([_one(tmp_path, V5)])
