"""Which family a row is of, told by its fields, and what reads it. A new family is one function in `ADAPTERS`."""

from collections.abc import Callable

from envs_data.swebench.diffs import DiffFormatError, read_diff
from envs_data.swebench.evalscript import check_path
from envs_data.swebench.fields import Fields, InstanceFieldError
from envs_data.swebench.instance import Instance
from envs_data.swebench.legacy import EVAL_TYPES, Completion, read_legacy
from envs_data.swebench.r2e import read_r2e
from envs_data.swebench.swegym import REPOSITORIES, read_swegym
from envs_data.swebench.swesmith import read_swesmith

Adapter = Callable[[Fields, Completion], Instance]

FAMILIES = ("swebench", "r2e-gym", "swe-gym", "swe-smith", "embedded")
"""What `Instance.dataset` may be."""


def read_v5(fields: Fields, completion: Completion) -> Instance:
    """A row of swebench 5.x: complete, as `make_test_spec` takes it.

    Raises:
        InstanceFieldError: a field is absent or unfit.
    """
    instance_id = fields.instance_id()
    used = set(Instance.__dataclass_fields__)
    patch, test_patch = fields.text("patch"), fields.text("test_patch", "")
    for name, diff in (("patch", patch), ("test_patch", test_patch)):
        _check_paths(fields, name, diff)
    image = completion.image or completion.prebuilt(fields.image())
    return Instance(
        instance_id=instance_id,
        repo=fields.repo(),
        base_commit=fields.commit(),
        problem_statement=fields.prose("problem_statement"),
        patch=patch,
        test_patch=test_patch,
        FAIL_TO_PASS=fields.tests("FAIL_TO_PASS"),
        PASS_TO_PASS=fields.tests("PASS_TO_PASS"),
        version=fields.label("version"),
        image=completion.image_for(fields, instance_id, image),
        eval_script=fields.text("eval_script"),
        log_parser=fields.identifier("log_parser"),
        eval_type=fields.choice("eval_type", EVAL_TYPES),
        hints_text=fields.prose("hints_text", ""),
        created_at=fields.label("created_at"),
        dataset=fields.choice("dataset", FAMILIES),
        extra={name: value for name, value in fields.row.items() if name not in used},
    )


ADAPTERS: dict[str, Adapter] = {
    "swebench": read_v5,
    "swebench-4": read_legacy,
    "r2e-gym": read_r2e,
    "swe-gym": read_swegym,
    "swe-smith": read_swesmith,
}
"""Readers of rows by the name that `dataset=` takes."""


def family(fields: Fields) -> str:
    """The key of `ADAPTERS` that fits a row.

    Raises:
        InstanceFieldError: none does.
    """
    if fields.has("eval_script") or fields.has("log_parser"):
        return "swebench"
    if fields.has("expected_output_json", "docker_image"):
        return "r2e-gym"
    if fields.has("image_name", "patch") and not fields.row.get("test_patch"):
        return "swe-smith"
    if fields.has("patch", "test_patch"):
        return "swe-gym" if fields.row.get("repo") in REPOSITORIES else "swebench-4"
    names = ", ".join(sorted(map(str, fields.row))[:20]) or "no fields"
    raise InstanceFieldError(
        f"{fields.place}: a row of no known family; it has {names[:300]}. Known are SWE-bench (4.x and 5.x), R2E-Gym, "
        "SWE-Gym and SWE-smith: see docs/swebench-data.md"
    )


def read_row(fields: Fields, completion: Completion, dataset: str | None = None) -> Instance:
    """The instance of a row.

    Args:
        fields: The row.
        completion: What the caller adds.
        dataset: A key of `ADAPTERS`; by default what `family` says. "swebench" takes rows of 4.x and 5.x.

    Raises:
        InstanceFieldError: with file, row, instance and field.
    """
    if dataset is not None and dataset not in ADAPTERS:
        raise InstanceFieldError(f"unknown dataset {dataset!r}; known: {', '.join(ADAPTERS)}")
    found = dataset or family(fields)
    if found == "swebench" and not (fields.has("eval_script") or fields.has("log_parser")):
        found = "swebench-4"
    instance = ADAPTERS[found](fields, completion)
    if not instance.FAIL_TO_PASS:
        raise fields.fault("FAIL_TO_PASS", "at least one test: without one, any patch would solve it", [])
    return instance


def _check_paths(fields: Fields, name: str, diff: str) -> None:
    try:
        for file in read_diff(diff):
            for path in (file.old_path, file.new_path):
                if path is not None:
                    check_path(path)
    except DiffFormatError as error:
        raise fields.fault(name, f"a patch in git's form ({error})", diff) from error
