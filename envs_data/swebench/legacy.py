"""Rows of swebench 4.x: they say neither image nor commands nor log parser. That package kept these in tables, today's
does not: the user says them, per repository, version or instance, in a small JSON file of specs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from envs_data.swebench.diffs import DiffFormatError
from envs_data.swebench.evalscript import CONDA, arguments_from, eval_script
from envs_data.swebench.fields import Fields, InstanceFieldError, InstanceFileError, fits_image, shown
from envs_data.swebench.instance import Instance

EVAL_TYPES = ("pass_and_fail", "fail_only")
MAX_SPECS = 16_000_000
"""Bytes of a file of specs."""


class LegacyRowError(InstanceFieldError):
    """A row of swebench 4.x that nothing completes; the message names what is missing and how to say it."""


class SpecsFileError(InstanceFileError):
    """A file of specs is absent or not of its schema."""


@dataclass(frozen=True)
class Spec:
    """How instances are tested. Every field may be left out of a file of specs; entries that fit are merged."""

    test_cmd: str = ""
    """Runs tests; the test files of the instance's test patch are appended."""
    log_parser: str = ""
    """A key of swebench's PARSER_REGISTRY, such as parse_log_pytest."""
    image: str = ""
    """A container image; "{instance_id}" in it is replaced."""
    eval_type: str = ""
    """pass_and_fail (default) or fail_only."""
    activate: tuple[str, ...] | None = None
    """Lines before all others. Default: SWE-bench's conda lines if the image is a prebuilt one, else none."""
    pre_test: tuple[str, ...] = ()
    """Lines in the repository, before tests."""
    install: tuple[str, ...] = ()
    """Lines in the repository, after `pre_test`; the patch is in by then, so that compiled parts are rebuilt."""
    directives: str = ""
    """What is appended to `test_cmd`: files (default), modules (Django's runner: its default) or none."""


@dataclass(frozen=True)
class Completion:
    """What the caller adds to the rows of a file."""

    specs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Entries of a file of specs, as `read_specs` gives them."""
    namespace: str | None = None
    """Where prebuilt images lie, such as "swebench"."""
    image: str | None = None
    """An image for every row, whatever it says; "{instance_id}" is replaced."""

    def spec(self, instance_id: str, repo: str, version: str) -> Spec:
        """What is said of a repository, then of its version, then of the instance; the last word counts."""
        merged: dict[str, Any] = {}
        for key in (repo, f"{repo}@{version}", instance_id):
            merged |= self.specs.get(key, {})
        return Spec(**merged)

    def prebuilt(self, image: str) -> str:
        """A row's own image, in the caller's namespace if one was named, as of a mirror."""
        return f"{self.namespace}/{image.rsplit('/', 1)[-1]}" if self.namespace else image

    def image_for(self, fields: Fields, instance_id: str, otherwise: str) -> str:
        """The image of an instance: what the caller wants for every row, else `otherwise`.

        Raises:
            InstanceFieldError: it is no name of an image.
        """
        image = (self.image or otherwise).replace("{instance_id}", instance_id.lower())
        if not fits_image(image):
            raise fields.fault("image", "the name of a container image", image or None)
        return image


def read_specs(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of a file of specs: {"owner/name" | "owner/name@version" | instance id: {field of `Spec`: value}}.

    Raises:
        SpecsFileError: with the entry and the field.
    """
    try:
        if path.stat().st_size > MAX_SPECS:
            raise SpecsFileError(f"{path}: longer than {MAX_SPECS} bytes; refused")
        found = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SpecsFileError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise SpecsFileError(f"{path}: expected an object of entries, found {shown(found)}")
    return {key: _entry(f"{path}: entry {shown(key)}", entry) for key, entry in found.items()}


def read_legacy(fields: Fields, completion: Completion) -> Instance:
    """A row with the fields of 4.x (SWE-bench, Lite, Verified as they were published) and what completes it.

    Raises:
        LegacyRowError: neither row nor specs say how to test it.
        InstanceFieldError: a field is unfit.
    """
    instance_id, repo, version = fields.instance_id(), fields.repo(), fields.label("version")
    spec = completion.spec(instance_id, repo, version)
    prebuilt = official_image(instance_id, completion.namespace) if completion.namespace else ""
    image = completion.image or spec.image or prebuilt
    missing = [name for name, value in (("test_cmd", spec.test_cmd), ("log_parser", spec.log_parser)) if not value]
    if missing or not image:
        raise LegacyRowError(_missing(fields, f"{repo}@{version}", missing, image))
    if spec.activate is None and image == prebuilt:
        spec = replace(spec, activate=CONDA)
    return complete(fields, spec, completion.image_for(fields, instance_id, image), dataset="swebench")


def complete(fields: Fields, spec: Spec, image: str, *, dataset: str, arguments: str | None = None) -> Instance:
    """A row with the common fields of SWE-bench, tested as `spec` says.

    Args:
        fields: The row.
        spec: With `test_cmd` and `log_parser`.
        image: Its container image.
        dataset: Its family.
        arguments: What follows `test_cmd`, in place of what `spec.directives` says.
    """
    base_commit, test_patch, repo = fields.commit(), fields.text("test_patch"), fields.repo()
    directives = spec.directives or ("modules" if repo == "django/django" else "files")
    try:
        if arguments is None:
            as_modules = directives == "modules"
            arguments = "" if directives == "none" else arguments_from(test_patch, as_modules=as_modules)
        script = eval_script(
            f"{spec.test_cmd} {arguments}".strip(),
            base_commit=base_commit,
            test_patch=test_patch,
            before=spec.activate or (),
            setup=(*spec.pre_test, *spec.install),
        )
    except DiffFormatError as error:
        raise fields.fault("test_patch", f"a patch in git's form ({error})", test_patch) from error
    used = set(Instance.__dataclass_fields__)
    return Instance(
        instance_id=fields.instance_id(),
        repo=repo,
        base_commit=base_commit,
        problem_statement=fields.prose("problem_statement"),
        patch=fields.text("patch"),
        test_patch=test_patch,
        FAIL_TO_PASS=fields.tests("FAIL_TO_PASS"),
        PASS_TO_PASS=fields.tests("PASS_TO_PASS"),
        version=fields.label("version"),
        image=image,
        eval_script=script,
        log_parser=spec.log_parser,
        eval_type=spec.eval_type or EVAL_TYPES[0],
        hints_text=fields.prose("hints_text", ""),
        created_at=fields.label("created_at"),
        dataset=dataset,
        extra={name: value for name, value in fields.row.items() if name not in used},
    )


def official_image(instance_id: str, namespace: str = "swebench") -> str:
    """The prebuilt image of SWE-bench's own instances: a container's name cannot hold "__"."""
    return f"{namespace}/sweb.eval.x86_64.{instance_id.lower().replace('__', '_1776_')}:latest"


def _entry(where: str, entry: object) -> dict[str, Any]:
    known = set(Spec.__dataclass_fields__)
    if not isinstance(entry, dict) or not set(entry) <= known:
        raise SpecsFileError(
            f"{where}: expected an object with fields of {', '.join(sorted(known))}; found {_keys(entry)}"
        )
    return {name: _value(f"{where}: field {name!r}", name, value) for name, value in entry.items()}


def _value(where: str, name: str, value: object) -> str | tuple[str, ...]:
    if name in ("activate", "pre_test", "install"):
        lines = [value] if isinstance(value, str) else value
        if not isinstance(lines, list) or not all(isinstance(line, str) and "\0" not in line for line in lines):
            raise SpecsFileError(f"{where}: expected a line or a list of lines, found {shown(value)}")
        return tuple(lines)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise SpecsFileError(f"{where}: expected a string, found {shown(value)}")
    known = {"eval_type": EVAL_TYPES, "directives": ("files", "modules", "none")}.get(name)
    if known and value not in known:
        raise SpecsFileError(f"{where}: expected one of {', '.join(known)}, found {shown(value)}")
    return value


def _missing(fields: Fields, key: str, missing: Sequence[str], image: str) -> str:
    ways = []
    if missing:
        ways.append(
            f"give a file of specs (--specs) whose entry {key!r}, the repository's or the instance's own says "
            f"{' and '.join(missing)}"
        )
    if not image:
        ways.append(
            "say where its image is: --namespace swebench for the prebuilt ones, --image for a local one, or image in "
            "the specs"
        )
    lacks = [name for name in ("image", "eval_script", "log_parser", "eval_type") if not fields.has(name)]
    return (
        f"{fields.place}: a row of swebench 4.x, which lacks {', '.join(lacks)}. To complete it, "
        f"{'; and '.join(ways)} (docs/swebench-data.md has the schema)"
    )


def _keys(entry: object) -> str:
    return ", ".join(map(shown, list(entry)[:10])) if isinstance(entry, dict) else shown(entry)
