"""SWE-smith (https://huggingface.co/datasets/SWE-bench/SWE-smith): some 59 thousand bugs put into 222 repositories.

Read are instance_id, repo, image_name, patch, FAIL_TO_PASS, PASS_TO_PASS, problem_statement and, where there,
base_commit and created_at. `patch` is the bug; the solution is its reverse. The image holds the repository without the
bug, so that whoever starts it must first apply `extra["setup_patch"]` and commit. Its other branches hold bugs and
their solutions: squash them away. Fields are as SWE-smith's documentation and harness have them; the data themselves
could not be looked at here.
"""

import shlex
from dataclasses import replace

from envs_data.swebench.diffs import DiffFormatError, reverse_diff
from envs_data.swebench.evalscript import CONDA, eval_script, files_of
from envs_data.swebench.fields import Fields
from envs_data.swebench.instance import Instance
from envs_data.swebench.legacy import Completion, LegacyRowError

NAMESPACE = "jyangballin"
"""Where images were published first; rows of today name theirs in full."""
TEST_COMMAND = "pytest -rA --disable-warnings --color=no --tb=no"
_SHOWN = 20
"""Failing tests that a made issue text names."""


def read_swesmith(fields: Fields, completion: Completion) -> Instance:
    """A row of SWE-smith.

    Only the files of FAIL_TO_PASS are run, as by SWE-smith's own harness, and of PASS_TO_PASS only what is in them is
    kept. A row without an issue text (many have none) gets one that names the failing tests.

    Raises:
        LegacyRowError: its tests are not pytest's and no specs say how to run them.
        InstanceFieldError: a field is unfit.
    """
    instance_id, bug, failing = fields.instance_id(), fields.text("patch"), fields.tests("FAIL_TO_PASS")
    repo, version = fields.repo(), fields.label("version")
    spec = completion.spec(instance_id, repo, version)
    pytests = all(".py::" in test for test in failing)
    if not pytests and not (spec.test_cmd and spec.log_parser):
        raise LegacyRowError(
            f"{fields.place}: its tests are not pytest's; give a file of specs (--specs) whose entry {repo!r} says "
            "test_cmd and log_parser (docs/swebench-data.md has the schema)"
        )
    spec = replace(spec, test_cmd=spec.test_cmd or TEST_COMMAND, log_parser=spec.log_parser or "parse_log_pytest")
    passing = fields.tests("PASS_TO_PASS")
    try:
        files = files_of(failing) if pytests else []
        script = eval_script(
            " ".join([spec.test_cmd, *_quoted(files)]),
            restore=files,
            before=CONDA if spec.activate is None else spec.activate,
            setup=(*spec.pre_test, *spec.install),
        )
        solution = reverse_diff(bug)
    except DiffFormatError as error:
        raise fields.fault("patch", f"a patch in git's form that can be reversed ({error})", bug) from error
    return Instance(
        instance_id=instance_id,
        repo=repo,
        base_commit=fields.commit(default="HEAD"),
        problem_statement=fields.prose("problem_statement", "").strip() or _issue(failing),
        patch=solution,
        test_patch="",
        FAIL_TO_PASS=failing,
        PASS_TO_PASS=tuple(test for test in passing if not pytests or test.split("::", 1)[0] in files),
        version=version,
        image=completion.image_for(fields, instance_id, spec.image or _image(fields, completion)),
        eval_script=script,
        log_parser=spec.log_parser,
        eval_type=spec.eval_type or "pass_and_fail",
        created_at=fields.label("created_at"),
        dataset="swe-smith",
        extra={"setup_patch": bug},
    )


def _image(fields: Fields, completion: Completion) -> str:
    image = completion.prebuilt(fields.image("image_name"))
    return image if "/" in image else f"{NAMESPACE}/{image.replace('__', '_1776_')}"


def _issue(failing: tuple[str, ...]) -> str:
    tests = "\n".join(f"- {test}" for test in failing[:_SHOWN])
    return f"These tests fail. Find the cause in the code and repair it; leave the tests as they are.\n\n{tests}\n"


def _quoted(files: list[str]) -> list[str]:
    return [shlex.quote(file) for file in files]
