"""SWE-Gym and SWE-Gym-Lite (https://huggingface.co/datasets/SWE-Gym/SWE-Gym): 2,438 and 230 tasks of eleven
repositories that SWE-bench's test split has none of. Rows have the common fields of SWE-bench, images are prebuilt.

Read are instance_id, repo, base_commit, patch, test_patch, problem_statement, hints_text, created_at, version,
FAIL_TO_PASS and PASS_TO_PASS. The commands are not in the rows but in tables of SWE-Gym's fork of swebench, which could
not be checked here: the defaults below run pytest on the test files, and a file of specs replaces them.
"""

import shlex
from dataclasses import replace

from envs_data.swebench.evalscript import CONDA, files_of
from envs_data.swebench.fields import Fields
from envs_data.swebench.instance import Instance
from envs_data.swebench.legacy import Completion, complete

REPOSITORIES = frozenset(
    {
        "Project-MONAI/MONAI",
        "bokeh/bokeh",
        "conan-io/conan",
        "dask/dask",
        "facebookresearch/hydra",
        "getmoto/moto",
        "iterative/dvc",
        "modin-project/modin",
        "pandas-dev/pandas",
        "pydantic/pydantic",
        "python/mypy",
    }
)
NAMESPACE = "xingyaoww"
"""Where SWE-Gym's images are published."""


def read_swegym(fields: Fields, completion: Completion) -> Instance:
    """A row of SWE-Gym; specs may say other commands, `namespace` or `image` another image."""
    instance_id, repo = fields.instance_id(), fields.repo()
    spec = completion.spec(instance_id, repo, fields.label("version"))
    spec = replace(
        spec,
        test_cmd=spec.test_cmd or "pytest -rA",
        log_parser=spec.log_parser or "parse_log_pytest",
        activate=CONDA if spec.activate is None else spec.activate,
    )
    prebuilt = f"{completion.namespace or NAMESPACE}/sweb.eval.x86_64.{instance_id.lower().replace('__', '_s_')}:latest"
    image = completion.image_for(fields, instance_id, spec.image or prebuilt)
    arguments = None
    if repo == "python/mypy" and not spec.directives:  # its test patches change data, not test files
        tests = (*fields.tests("FAIL_TO_PASS"), *fields.tests("PASS_TO_PASS"))
        names = " or ".join(dict.fromkeys(test.rsplit("::", 1)[-1] for test in tests))
        arguments = f"{' '.join(map(shlex.quote, files_of(tests)))} -k {shlex.quote(names)}"
    return complete(fields, spec, image, dataset="swe-gym", arguments=arguments)
