"""What a release says of itself: version, changelog, citation, licences, and messages about extras."""

import importlib.util
import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType

import pytest

import aem_suite
from aem_envs.cli_common import describe
from aem_envs.extras import EXTRA_OF, advice
from aem_suite.version import NOT_INSTALLED, installed_version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
VERSION = r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?"


def test_the_version_is_said_once_and_is_semantic(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(VERSION, PROJECT["version"])
    assert aem_suite.__version__ == installed_version() == PROJECT["version"], "install again: pip install -e ."
    with pytest.raises(AttributeError, match="no attribute 'version_'"):
        aem_suite.version_  # noqa: B018

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    assert installed_version() == NOT_INSTALLED


def test_the_changelog_is_well_formed() -> None:
    """`## Unreleased` first, if at all, then releases with dates, newest first; each with parts of known names."""
    heads = re.findall(r"^## (.+)$", CHANGELOG, flags=re.M)
    releases = [head for head in heads if head != "Unreleased"]
    assert heads and "Unreleased" not in heads[1:]
    matches = [re.fullmatch(rf"({VERSION}) \(\d{{4}}-\d\d-\d\d\)", head) for head in releases]
    assert all(matches), releases
    versions = [match[1] for match in matches if match]
    assert versions == sorted(set(versions), key=lambda v: [*map(int, v.partition("-")[0].split("."))], reverse=True)
    assert PROJECT["version"] in versions or "Unreleased" in heads
    for body in re.split(r"^## .+$", CHANGELOG, flags=re.M)[1:]:
        parts = re.findall(r"^### (.+)$", body, flags=re.M)
        assert parts and len(parts) == len(set(parts))
        assert set(parts) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        for part in re.split(r"^### .+$", body, flags=re.M)[1:]:
            assert part.strip().startswith("- "), "a part is a list"


def test_the_citation_has_what_its_schema_requires() -> None:
    """Required keys of the Citation File Format 1.2.0, and values that are true."""
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= found.keys()
    assert (found["cff-version"], found["type"]) == ("1.2.0", "software")
    assert (found["version"], found["license"]) == (PROJECT["version"], PROJECT["license"])
    (paper,) = found["references"]
    assert {"type", "title", "authors"} <= paper.keys() and paper["url"] == "https://arxiv.org/abs/2605.00425"
    assert paper["url"] in (ROOT / "README.md").read_text()
    for person in (*found["authors"], *paper["authors"]):
        assert person.keys() <= {"name", "family-names", "given-names"} and all(person.values())
    for each in paper["identifiers"]:
        assert each["type"] in ("doi", "url", "swh", "other") and each["value"]


def test_a_missing_package_is_told_with_its_extra() -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    assert describe(caught.value) == 'torch, which this needs, is not installed: pip install "aem-suite[train]"'
    for error in (
        ModuleNotFoundError("No module named 'torch.odd'", name="torch.odd"),  # torch is there, and another one
        ModuleNotFoundError("No module named 'mine'", name="mine"),
        ModuleNotFoundError("grading needs swebench", name="swebench"),  # said already
        ImportError("libcuda.so.1: cannot open", name="torch"),
    ):
        assert advice(error) is None and describe(error) == str(error)


def test_extras_of_packages_are_those_of_the_project() -> None:
    by_extra = {name: " ".join(lines).lower() for name, lines in PROJECT["optional-dependencies"].items()}
    for package, extra in EXTRA_OF.items():
        assert re.search(rf"\b{ {'PIL': 'pillow'}.get(package, package) }\b", by_extra[extra]), package


# -- licences ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    pytest.importorskip("packaging")
    spec = importlib.util.spec_from_file_location("licences_script", ROOT / "docs" / "_scripts" / "licences.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_licences_is_what_metadata_say(licences: ModuleType) -> None:
    """Rows of what is installed in the pinned version; others may have another licence by now."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = {licences.normal(name): version for name, version in pins.items()}
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (.+) \| (.+) \|$", licences.PAGE.read_text(), flags=re.M)
    told = {name: (licence, brought) for name, licence, brought in rows}
    found = licences.collect()
    looked_at = 0
    for name, licence in found.licences.items():
        if distribution(name).version == pinned.get(name):
            assert told.get(name, ("absent: run docs/_scripts/licences.py --write",))[0] == licence, name
            assert found.missing or told[name][1] == licences.brought(found.extras[name]), name
            looked_at += 1
    assert looked_at > 10


def test_no_gpl_comes_with_the_core_or_the_permissive_extras(licences: ModuleType) -> None:
    found = licences.collect()
    gpl = {name for name, licence in found.licences.items() if re.search(r"\bA?GPL|GNU (Affero )?General", licence)}
    assert gpl <= {"fast-downward-textworld", "jericho"}
    assert all(found.extras[name] == {"alfworld"} for name in gpl)
    silent = {name for name, licence in found.licences.items() if licence == "not stated"}
    assert not {name for name in silent if not name.startswith(("nvidia-", "cuda-"))}  # with a CUDA build of torch


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("License-Expression", "MIT")], "MIT"),
        ([("License", "Apache 2.0")], "Apache-2.0"),
        ([("License", "A whole text\nof many lines")], "A whole text"),
        ([("Classifier", "License :: OSI Approved :: MIT License")], "MIT"),
        ([("License", "a\nb"), ("Classifier", "License :: OSI Approved :: GNU General Public License v3 (GPLv3)")],
         "GNU General Public License v3"),
        ([("Classifier", "License :: OSI Approved")], "not stated"),
    ],
)  # fmt: skip
def test_a_licence_is_read_from_metadata(licences: ModuleType, fields: list, expected: str) -> None:
    from email.message import Message

    data = Message()
    for key, value in fields:
        data[key] = value
    assert licences.licence(data) == expected
