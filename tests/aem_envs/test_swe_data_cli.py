"""`aem-data swebench`: what there is, what is sound here, rows for `swebench eval`."""

import json
import shutil
from dataclasses import replace
from threading import Event, current_thread, main_thread

import pytest
from swe_tasks import a_task, need_local, rooms, tasks

from aem_envs.swebench import data_commands, validate
from aem_envs.swebench.rooms import RoomMaker
from aem_envs.swebench.sandbox import Room
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
        (["validate", "empty.jsonl"], "empty.jsonl holds no rows"),
    ],
)
def test_wrong_use_is_said_in_one_line(capsys, monkeypatch, tmp_path, arguments, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    code, said = run(capsys, *arguments)
    assert code == 2 and why in said.err and len(said.err.splitlines()) == 1


def test_rows_are_written_for_the_harness(capsys, tmp_path):
    code, _ = run(capsys, "rows", "--split", "dev", "--n", 3, "--out", tmp_path / "rows.jsonl")
    written = read_instances(tmp_path / "rows.jsonl")
    assert code == 0 and [i.instance_id for i in written] == list(tasks().ids("dev")[:3])
    assert written[0].eval_script == tasks().find(written[0].instance_id).instance.eval_script


def test_rows_name_the_images_that_grading_needs(capsys, tmp_path, monkeypatch):
    """Those of agents lack what is hidden from them, such as R2E-Gym's tests."""
    monkeypatch.setattr(
        RoomMaker, "room", lambda self, task, say=None, *, grading=False: Room(image=f"{self.kind}-{grading}")
    )
    assert run(capsys, "rows", "--docker", "--instance", a_task().id, "--out", tmp_path / "rows.jsonl")[0] == 0
    assert read_instances(tmp_path / "rows.jsonl")[0].image == "docker-True"


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
    broken = Validation(a_task().id, "0" * 16, True, "unresolved", "resolved", 1.0, where=validate.here(rooms()))
    write_outcomes(out, [broken])
    assert run(capsys, "validate", "--instance", other.instance_id, "--out", out)[0] == 0
    assert read_outcomes(out)[a_task().id].data_hash == a_task().data_hash, "of other data: it was done again"


def test_outcomes_hold_for_one_kind_of_sandbox_and_what_broke_is_tried_again(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("AEM_CACHE", str(tmp_path))
    graded = []

    def validated(task, rooms, timeout):
        graded.append(task.id)
        broke = len(graded) == 2
        verdicts = ("error", "error") if broke else ("unresolved", "resolved")
        return Validation(task.id, task.data_hash, not broke, *verdicts, 1.0, where=validate.here(rooms))

    monkeypatch.setattr(validate, "validated", validated)
    out, one = tmp_path / "valid.jsonl", ("--instance", a_task().id, "--workers", 8)
    assert run(capsys, "validate", *one, "--out", out)[0] == 0
    assert run(capsys, "validate", *one, "--out", out, "--sandbox", "docker")[0] == 1
    assert run(capsys, "validate", *one, "--out", out, "--sandbox", "docker")[0] == 0
    assert len(graded) == 3, "another sandbox, then what broke there"
    assert run(capsys, "validate", *one, "--out", out, "--sandbox", "docker")[0] == 0 and len(graded) == 3
    code, said = run(capsys, "validate", "--split", "dev", "--workers", 8, "--json")
    told = json.loads(said.out)
    assert code == 0 and [row["instance_id"] for row in told] == list(tasks().ids("dev"))
    assert read_outcomes(tmp_path / "swebench" / "validated.jsonl").keys() == set(tasks().ids("dev"))


def test_nothing_more_is_graded_after_an_interruption(monkeypatch):
    graded, never = [], Event()

    def validated(task, rooms, timeout):
        graded.append(task.id)
        never.wait(0.5 if len(graded) > 1 else 0.0)

    monkeypatch.setattr(validate, "validated", validated)
    several = [tasks().find(task_id) for task_id in tasks().ids("dev")]

    def interrupted(found):
        assert current_thread() is main_thread(), "what keeps outcomes need not think of threads"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate.validate(several, rooms(), timeout=1.0, done={}, on_each=interrupted, workers=1)
    assert len(graded) < len(several)


def test_downloads_go_below_the_folder_of_all_sets(capsys, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("envs_data.swebench.download.download", lambda to, name, **how: asked.append(to) or [])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SWEBENCH_DATA", str(tmp_path / "rows.jsonl"))
    assert run(capsys, "download", "lite")[0] == 0
    assert run(capsys, "download", "lite", "--to", tmp_path / "sets")[0] == 0
    assert asked == [tmp_path / ".cache/swebench/lite", tmp_path / "sets/lite"]


@pytest.mark.slow
def test_a_gold_patch_that_is_none_is_not_valid():
    need_local()
    task = a_task()
    wrong = replace(task, instance=replace(task.instance, FAIL_TO_PASS=("test_inflection.py::test_none_such",)))
    wrong = replace(wrong, data_hash=task.data_hash)
    found = validate.validated(wrong, rooms(), 60)
    assert found.where == validate.here(rooms())
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
