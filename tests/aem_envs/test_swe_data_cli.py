"""`aem-data swebench`: what there is, what is sound here, rows for `swebench eval`."""

import json
import shutil

import pytest
from swe_tasks import a_task, need_local, tasks

from aem_envs.swebench import data_commands, validate
from aem_envs.swebench.validate import BadValidationError, Validation, read_outcomes, write_outcomes
from aem_suite.data_cli import main
from envs_data.swebench.rows import read_instances


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        main(["swebench", *map(str, arguments)])
    return exit.value.code, capsys.readouterr()


def test_tasks_are_listed_and_counted(capsys):
    code, said = run(capsys, "ls", "--split", "test", "--n", 2, "--json")
    rows = json.loads(said.out)
    assert code == 0 and [row["split"] for row in rows] == ["test", "test"]
    code, said = run(capsys, "ls", "--instance", a_task().id)
    assert code == 0 and said.out.startswith(f"{a_task().id}  ") and len(said.out.splitlines()) == 1
    code, said = run(capsys, "stats", "--json")
    counts = json.loads(said.out)
    assert sum(counts[split]["tasks"] for split in tasks().splits) >= 200 and len(counts["data_hash"]) == 16
    assert run(capsys, "stats")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["ls", "--split", "nowhere"], "there are: train, dev, test"),
        (["ls", "--instance", "none-0001"], "unknown task_id"),
        (["ls", "--data", "rows.jsonl"], "--source official"),
        (["stats", "--source", "official", "--data", "none.jsonl"], "none.jsonl"),
        (["validate", "none.jsonl"], "none.jsonl"),
        (["ls", "--namespace", "x"], "source=official"),
    ],
)
def test_wrong_use_is_said_in_one_line(capsys, monkeypatch, tmp_path, arguments, why):
    monkeypatch.chdir(tmp_path)
    code, said = run(capsys, *arguments)
    assert code == 2 and why in said.err and len(said.err.splitlines()) == 1


def test_rows_are_written_for_the_harness(capsys, tmp_path):
    code, _ = run(capsys, "rows", "--split", "dev", "--n", 3, "--out", tmp_path / "rows.jsonl")
    written = read_instances(tmp_path / "rows.jsonl")
    assert code == 0 and [i.instance_id for i in written] == list(tasks().ids("dev")[:3])
    assert written[0].eval_script == tasks().find(written[0].instance_id).instance.eval_script


@pytest.mark.slow
def test_validation_tells_sound_from_unsound_and_keeps_what_it_found(capsys, tmp_path, monkeypatch):
    need_local()
    pytest.importorskip("swebench")
    out = tmp_path / "valid.jsonl"
    code, said = run(capsys, "validate", "--instance", a_task().id, "--out", out)
    assert code == 0 and "1 of 1 instance valid on this machine (local)" in said.out
    assert read_outcomes(out)[a_task().id].valid
    monkeypatch.setattr(validate, "validated", lambda *given: pytest.fail("it is known already"))
    assert run(capsys, "validate", "--instance", a_task().id, "--out", out)[0] == 0
    monkeypatch.undo()
    other = a_task().instance
    broken = Validation(a_task().id, "0" * 16, True, "unresolved", "resolved", 1.0)
    write_outcomes(out, [broken])
    assert run(capsys, "validate", "--instance", other.instance_id, "--out", out)[0] == 0
    assert read_outcomes(out)[a_task().id].data_hash == a_task().data_hash, "of other data: it was done again"


@pytest.mark.slow
def test_a_gold_patch_that_is_none_is_not_valid():
    need_local()
    from dataclasses import replace

    from swe_tasks import rooms

    task = a_task()
    wrong = replace(task, instance=replace(task.instance, FAIL_TO_PASS=("test_inflection.py::test_none_such",)))
    wrong = replace(wrong, data_hash=task.data_hash)
    found = validate.validated(wrong, rooms(), 60)
    assert (found.valid, found.empty, found.gold) == (False, "unresolved", "unresolved")
    assert "test_none_such" in found.note


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(BadValidationError, match=r"x\.jsonl"):
        read_outcomes(tmp_path / "x.jsonl")
    assert read_outcomes(tmp_path / "none.jsonl") == {}


def test_clean_removes_what_was_prepared(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("AEM_CACHE", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    (tmp_path / "swebench" / "repositories").mkdir(parents=True)
    code, said = run(capsys, "clean")
    assert code == 0 and not (tmp_path / "swebench").exists() and "no container images removed" in said.err
    assert data_commands.swebench_cache() == tmp_path / "swebench"
    shutil.rmtree(tmp_path, ignore_errors=True)
