"""`swebench eval` itself, in containers of a real daemon, and our grader: the same verdicts on the same rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from swe_docker import docker_base  # noqa: F401  # a fixture
from swe_tasks import a_task, graded, tasks

from aem_envs.swebench.rooms import RoomMaker
from aem_envs.swebench.sandbox import Limits
from aem_envs.swebench.task import Task
from envs_data.swebench.rows import write_jsonl

pytest.importorskip("swebench")
NO_OP = """diff --git a/CHANGES.txt b/CHANGES.txt
new file mode 100644
--- /dev/null
+++ b/CHANGES.txt
@@ -0,0 +1 @@
+Nothing was changed.
"""


def harness(task: Task, patches: dict[str, str], folder: Path) -> dict[str, bool]:
    """What `swebench eval` says of patches by the name of their model."""
    from dataclasses import replace

    image = RoomMaker("embedded", "docker", Limits()).room(task).image
    assert image is not None
    write_jsonl([replace(task.instance, image=image)], folder / "rows.jsonl")
    found = {}
    for model, patch in patches.items():
        prediction = {"instance_id": task.id, "model_name_or_path": model, "model_patch": patch}
        (folder / f"{model}.jsonl").write_text(json.dumps(prediction) + "\n")
        command = [Path(sys.executable).with_name("swebench"), "eval", "rows.jsonl", "-p", f"{model}.jsonl"]
        command += ["--run-id", model, "-j", "1", "-t", "300"]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        report = folder / "logs" / "run_evaluation" / model / model / task.id / "report.json"
        assert report.exists(), f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        found[model] = bool(json.loads(report.read_text())[task.id]["resolved"])
    return found


@pytest.mark.slow
def test_the_harness_and_our_grader_agree(docker_base, tmp_path):  # noqa: F811
    task = a_task()
    patches = {"gold": task.instance.patch, "no-op": NO_OP}
    theirs = harness(task, patches, tmp_path)
    ours = {model: graded(task, patch.encode(), "docker").resolved for model, patch in patches.items()}
    assert theirs == ours == {"gold": True, "no-op": False}


@pytest.mark.slow
def test_tasks_are_sound_in_containers(docker_base):  # noqa: F811
    names = [task_id for split in tasks().splits for task_id in tasks().ids(split)]
    firsts = {task_id.rpartition("-")[0]: task_id for task_id in sorted(names, reverse=True)}
    assert len(firsts) >= 5
    for package in ("inflection", "itsdangerous"):
        task = tasks().find(firsts[package])
        assert graded(task, task.instance.patch.encode(), "docker").resolved, package
        assert graded(task, b"", "docker", run_empty=True).verdict == "unresolved", package
