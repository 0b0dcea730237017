"""Which instances are for evaluation. Whoever trains on them can report no result on SWE-bench afterwards.

No list of ids is needed. SWE-bench's instances are named after a repository and a pull request ("owner__name-123"), and
its test and dev splits, of which Lite and Verified are parts, are of eighteen repositories that its train split has
none of; instances of the other families are named otherwise or are of other repositories.
"""

import re
from collections.abc import Iterable

from envs_data.errors import DataError
from envs_data.swebench.instance import Instance

TEST_REPOSITORIES = frozenset(
    {
        "astropy/astropy",
        "django/django",
        "matplotlib/matplotlib",
        "mwaskom/seaborn",
        "pallets/flask",
        "psf/requests",
        "pydata/xarray",
        "pylint-dev/pylint",
        "pytest-dev/pytest",
        "scikit-learn/scikit-learn",
        "sphinx-doc/sphinx",
        "sympy/sympy",
    }
)
"""Repositories of the test split, Lite's and Verified's included."""
DEV_REPOSITORIES = frozenset(
    {
        "marshmallow-code/marshmallow",
        "pvlib/pvlib-python",
        "pydicom/pydicom",
        "pylint-dev/astroid",
        "pyvista/pyvista",
        "sqlfluff/sqlfluff",
    }
)
"""Repositories of the dev split, Lite's included."""
_PULL_REQUEST = re.compile(r"(.+?)__(.+)-(\d+)")


class EvaluationSetError(DataError):
    """Instances that are, or may be, of an evaluation set were given for training."""


def evaluation_set(instance: Instance) -> str | None:
    """Why an instance is taken for one of an evaluation set; None if it is fit for training.

    The family is not asked: a row of Verified stays one under any name.
    """
    if instance.extra.get("difficulty") is not None:
        return "it has the field 'difficulty', as only SWE-bench Verified has"
    if instance.extra.get("image_assets"):
        return "it has the field 'image_assets', as only SWE-bench Multimodal has"
    if instance.dataset == "swebench" and instance.extra.get("split") in ("test", "dev"):
        return f"it is of SWE-bench's {instance.extra['split']} split"
    if match := _PULL_REQUEST.fullmatch(instance.instance_id):
        named = f"{match[1]}/{match[2]}".lower()
        for split, known in (("test", TEST_REPOSITORIES), ("dev", DEV_REPOSITORIES)):
            if named in known or instance.repo.lower() in known:
                return f"its repository is one of SWE-bench's {split} split"
    return None


def require_trainable(instances: Iterable[Instance], *, force: bool = False) -> None:
    """Refuse instances of evaluation sets (SWE-bench's test and dev splits, Lite, Verified, Multimodal).

    Args:
        instances: What one is about to train on.
        force: Train on them nevertheless.

    Raises:
        EvaluationSetError: with the first of them, their number, and what to use in their place.
    """
    reasons = {} if force else {one.instance_id: reason for one in instances if (reason := evaluation_set(one))}
    if not reasons:
        return
    first, reason = next(iter(reasons.items()))
    raise EvaluationSetError(
        f"{len(reasons)} instances are for evaluation, not for training: {first} ({reason})"
        f"{' and others' if len(reasons) > 1 else ''}. Train on R2E-Gym, SWE-Gym, SWE-smith or embedded tasks; to "
        "train on these nevertheless, force it, and report no result on SWE-bench afterwards"
    )
