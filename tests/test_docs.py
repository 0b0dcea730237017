"""The documents point at things that exist, and the README's commands are real."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def headings(document: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+)$", document.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for match in LINK.finditer(document.read_text()):
        target = match[1] or match[2]
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in headings(file)):
            broken.append(target)
    assert not broken, f"{document.name}: broken links {broken}"


def test_no_machine_paths_in_tracked_files() -> None:
    """Nothing in the repository may depend on one machine's folders."""
    pattern = r"(^|[\"' =(])/(work|root|home/[a-z]+)/"
    # R2E-Gym's images hold their tests in root's home: paths of theirs, not of a machine
    others = (":!tests/test_docs.py", ":!envs_data/swebench/r2e.py", ":!tests/envs_data/test_swe_adapters.py")
    found = subprocess.run(
        ["git", "grep", "-nIE", pattern, "--", ".", *others], cwd=ROOT, capture_output=True, text=True
    )
    if found.returncode > 1:
        pytest.skip(f"not a git checkout: {found.stderr.strip()}")
    assert not found.stdout, found.stdout


def test_nobody_is_told_to_install_from_an_index() -> None:
    """aem-suite is on no index; a checkout is installed by `pip install -e .`, with its extras in brackets."""
    told = re.compile(r"pip install (?:-\S+ |constraints\.txt )*[\"']?aem[-_]suite")
    assert told.search("`pip install -c constraints.txt 'aem-suite[trl]'`") and not told.search(
        "pip install -e . (aem-suite)"
    )
    assert not [document.name for document in DOCUMENTS if told.search(document.read_text())]


def test_make_targets_named_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"quickstart", "test"} <= named <= targets
