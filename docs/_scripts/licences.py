"""The table of docs/licences.md: every package that the extras bring, with its licence, from installed metadata.

    python docs/_scripts/licences.py            # print the table
    python docs/_scripts/licences.py --write    # put it into docs/licences.md

What is not installed here is named below the table. vLLM has an environment of its own and is not looked at.
"""

import argparse
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageMetadata, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "licences.md"
BEGIN, END = "<!-- table: python docs/_scripts/licences.py --write -->", "<!-- end of table -->"
LEFT_OUT = ("vllm", "all")

STATED = {"fast-downward-textworld": "GPL-3.0", "textworld": "MIT"}
"""Where metadata give no name: from the licence file in the package."""

SHORT = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache-2.0 license": "Apache-2.0",
    "BSD License": "BSD",
    "GNU General Public License v2 or later": "GPL-2.0-or-later",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0": "MPL-2.0",
    "PSFL": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense": "Unlicense",
}
"""Words of metadata → SPDX identifiers, or what is nearest where metadata do not say which variant."""


@dataclass
class Found:
    """What the extras bring."""

    licences: dict[str, str] = field(default_factory=dict)
    extras: dict[str, set[str]] = field(default_factory=dict)
    """Package → the extras that bring it; "core" for what comes without any."""
    missing: dict[str, set[str]] = field(default_factory=dict)
    """Packages that are not installed here → the extras that would bring them."""


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(data: PackageMetadata) -> str:
    """The SPDX expression, else a short licence field, else the classifiers; "not stated" if none says anything."""
    expression, line = data.get("License-Expression"), (data.get("License") or "").strip()
    if expression:
        return SHORT.get(expression, expression)
    classified = [c.rpartition(" :: ")[2] for c in data.get_all("Classifier") or () if c.startswith("License ::")]
    classified = [re.sub(r" \([^)]*\)$", "", c) for c in classified if c != "OSI Approved"]
    if line and len(line) < 50 and "\n" not in line and line.upper() not in ("UNKNOWN", "NONE"):
        classified = [line]
    elif not classified and line:
        classified = [line.partition("\n")[0].strip()]  # a whole text: its title
    return " OR ".join(sorted({SHORT.get(c, c) for c in classified})) or "not stated"


def wanted(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What the installed `name` with its `extras` requires on this platform."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield requirement


def collect(project: Mapping[str, object] | None = None) -> Found:
    """Follow each extra's requirements through the metadata of what is installed here."""
    read = project or tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    starts: dict[str, list[str]] = {"core": read["dependencies"], **read["optional-dependencies"]}  # type: ignore
    found = Found()
    for extra, lines in starts.items():
        if extra in LEFT_OUT:
            continue
        queue, seen = [Requirement(line) for line in lines], set()
        while queue:
            requirement = queue.pop()
            key = (normal(requirement.name), frozenset(requirement.extras))
            if key in seen or key[0] == "aem-suite":
                continue
            seen.add(key)
            try:
                data = distribution(key[0]).metadata
            except PackageNotFoundError:
                found.missing.setdefault(key[0], set()).add(extra)
                continue
            found.licences[key[0]] = STATED.get(key[0]) or licence(data)
            found.extras.setdefault(key[0], set()).add(extra)
            queue += wanted(*key)
    return found


def brought(extras: set[str]) -> str:
    """The extras in a cell: "core" stands for all."""
    return "core" if "core" in extras else ", ".join(sorted(extras))


def table(found: Found) -> str:
    """Markdown, a row a package."""
    rows = [f"| {name} | {found.licences[name]} | {brought(found.extras[name])} |" for name in sorted(found.licences)]
    lines = ["| package | licence | brought by |", "|---|---|---|", *rows]
    if found.missing:
        lines += ["", f"Not installed where this table was made: {', '.join(sorted(found.missing))}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Licences of what the extras bring.")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    made = table(collect())
    if not parser.parse_args().write:
        print(made)
        return
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
