"""One task in the schema of swebench 5.x: what its harness needs to grade a patch, and what an agent is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_TEXTS = (
    "instance_id",
    "repo",
    "base_commit",
    "problem_statement",
    "hints_text",
    "created_at",
    "patch",
    "test_patch",
    "version",
    "image",
    "eval_script",
    "log_parser",
    "eval_type",
)


@dataclass(frozen=True)
class Instance:
    """A repository at a commit, an issue, the patch that solves it, and the tests that tell.

    Field names are the official ones. `row` gives what `swebench.harness.utils.make_test_spec` takes.
    """

    instance_id: str
    repo: str
    base_commit: str
    problem_statement: str
    patch: str
    """The gold patch: for experts and validation, never for agents."""
    test_patch: str
    FAIL_TO_PASS: tuple[str, ...]
    PASS_TO_PASS: tuple[str, ...]
    version: str
    image: str
    """Container image with the repository in /testbed."""
    eval_script: str
    log_parser: str
    """A key of swebench's PARSER_REGISTRY."""
    eval_type: str = "pass_and_fail"
    hints_text: str = ""
    created_at: str = ""
    dataset: str = "swebench"
    """Which family the row is of: swebench, r2e-gym, swe-gym, swe-smith, embedded."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else a row held."""

    def row(self) -> dict[str, Any]:
        """The instance as one row of a 5.x file."""
        lists = {name: list(getattr(self, name)) for name in ("FAIL_TO_PASS", "PASS_TO_PASS")}
        return {name: getattr(self, name) for name in _TEXTS} | lists
