"""The packages that embedded tasks are made of: pinned source archives of PyPI that ship their tests.

All are pure Python under permissive licences, and pass their tests with pytest alone (the requirements of a few tests
are in `envs_data.swebench.toolbox`).
"""

from dataclasses import dataclass

from envs_data.errors import DataError


class UnknownPackageError(DataError, KeyError):
    """No embedded task is made of such a package."""

    __str__ = Exception.__str__


@dataclass(frozen=True)
class Package:
    """One source archive, and where in it code and tests lie. Paths are relative to its top folder."""

    name: str
    version: str
    sha256: str
    """Of the archive."""
    licence: str
    """SPDX identifier."""
    licence_files: tuple[str, ...]
    """Texts of the licence in the archive."""
    sources: tuple[str, ...]
    """Folders or files with the code that mutations change and fixes mend."""
    tests: tuple[str, ...]
    """Folders or files with tests, below which a repository's own tests all lie."""
    config: str
    """The file that pytest takes its settings from; `-c` pins it, so that no other file can come before it."""
    root: str = ""
    """Folder that imports start from."""
    protected: tuple[str, ...] = ()
    """More files that settings of the tests may hide in; restored before a test run, like `tests` and `config`."""
    conftest: str | None = None
    """The only folder with a conftest.py; without one, pytest reads none."""
    narrow: bool = False
    """The whole suite is slow: a task runs only the files that hold a failing test."""
    edits: tuple[tuple[str, str, str], ...] = ()
    """(file, text, new text): what keeps the tests from running with pytest alone."""
    skip: tuple[str, ...] = ()
    """Sources that are not mutated: made by programs, or about versions."""

    @property
    def archive(self) -> str:
        """File name of the source archive."""
        return f"{self.name}-{self.version}.tar.gz"

    @property
    def restored(self) -> tuple[str, ...]:
        """All that is restored before a test run, in a fixed order."""
        return tuple(dict.fromkeys((*self.tests, self.config, *self.protected)))


_COVERAGE = (
    'addopts = "--cov=parse --cov-report=term-missing --cov-append --cov-branch '
    '--doctest-modules --doctest-glob=README.rst"\n'
)

PACKAGES: dict[str, Package] = {
    package.name: package
    for package in (
        Package(
            name="cachetools",
            version="8.0.1",
            sha256="deb1d376d4d28c2f33f3e3058043b005e0af75c35c094bd54053e27d2906ad95",
            licence="MIT",
            licence_files=("LICENSE",),
            sources=("src/cachetools",),
            tests=("tests",),
            config="pyproject.toml",
            root="src",
            protected=("setup.cfg", "tox.ini"),
        ),
        Package(
            name="inflection",
            version="0.5.1",
            sha256="1a29730d366e996aaacffb2f1f1cb9593dc38e2ddd30c91250c6dde09ea9b417",
            licence="MIT",
            licence_files=("LICENSE",),
            sources=("inflection",),
            tests=("test_inflection.py",),
            config="setup.cfg",
        ),
        Package(
            name="itsdangerous",
            version="2.2.0",
            sha256="e0050c0b7da1eea53ffaf149c0cfbb5c6e2e2b69c4bef22c81fa6eb73e5f6173",
            licence="BSD-3-Clause",
            licence_files=("LICENSE.txt",),
            sources=("src/itsdangerous",),
            tests=("tests",),
            config="pyproject.toml",
            root="src",
            protected=("tox.ini",),
        ),
        Package(
            name="marshmallow",
            version="4.4.0",
            sha256="9e6ffa8511012ca89732324c1c253efd7b4d35632dcbdf80aa793fe01804af3e",
            licence="MIT",
            licence_files=("LICENSE", "NOTICE"),
            sources=("src/marshmallow",),
            tests=("tests",),
            config="pyproject.toml",
            root="src",
            protected=("tox.ini",),
            conftest="tests",
            narrow=True,
        ),
        Package(
            name="parse",
            version="1.22.4",
            sha256="706d458feed5a81b02768d3156e8070baf6cee7d150a3a3c0cd43101a875c3b5",
            licence="MIT",
            licence_files=("LICENSE",),
            sources=("parse",),
            tests=("tests",),
            config="pyproject.toml",
            protected=("setup.cfg",),
            edits=(("pyproject.toml", _COVERAGE, ""),),
        ),
        Package(
            name="schema",
            version="0.7.8",
            sha256="e86cc08edd6fe6e2522648f4e47e3a31920a76e82cce8937535422e310862ab5",
            licence="MIT",
            licence_files=("LICENSE-MIT",),
            sources=("schema",),
            tests=("test_schema.py",),
            config="setup.cfg",
            protected=("pyproject.toml", "tox.ini"),
        ),
        Package(
            name="tinydb",
            version="4.9.0",
            sha256="6928b1fa785186bda7952a0ba05aaeedc883ede565ca9c7d608de44e5e75de70",
            licence="MIT",
            licence_files=("LICENSE",),
            sources=("tinydb",),
            tests=("tests",),
            config="pyproject.toml",
            conftest="tests",
            skip=("tinydb/mypy_plugin.py", "tinydb/version.py"),
        ),
        Package(
            name="toolz",
            version="1.2.0",
            sha256="9667a038e9d6ecba37995e26cb2f59ec6420b6ad8dd9677de59db9b956b08490",
            licence="BSD-3-Clause",
            licence_files=("LICENSE.txt",),
            sources=("toolz",),
            tests=("toolz/tests", "toolz/sandbox/tests"),
            config="pyproject.toml",
            protected=("setup.cfg",),
            skip=("toolz/_signatures.py", "toolz/compatibility.py"),
        ),
        Package(
            name="voluptuous",
            version="0.16.0",
            sha256="006535e22fed944aec17bef6e8725472476194743c87bd233e912eb463f8ff05",
            licence="BSD-3-Clause",
            licence_files=("COPYING",),
            sources=("voluptuous",),
            tests=("voluptuous/tests",),
            config="pyproject.toml",
            protected=("setup.cfg", "tox.ini"),
        ),
    )
}
"""By name, in alphabetical order."""


def package_named(name: str) -> Package:
    """The package; raises `UnknownPackageError`."""
    if name not in PACKAGES:
        raise UnknownPackageError(f"unknown package {name!r}; known: {', '.join(PACKAGES)}")
    return PACKAGES[name]


def environment(package: Package) -> dict[str, str]:
    """Environment of every command in a repository of the package, in `Room.env` or an image's ENV.

    Paths are those inside a sandbox. The toolbox comes before the repository, so that no file of it can stand in for
    pytest. PATH is the sandbox's own affair: /opt/aem/bin comes first.
    """
    root = f"/testbed/{package.root}".rstrip("/")
    return {
        "PYTHONPATH": f"/opt/aem/site:{root}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
    }


def is_source(package: Package, path: str) -> bool:
    """Whether a file is code that a mutation may change: below a source folder, no test."""
    inside = any(path == top or path.startswith(f"{top}/") for top in package.sources)
    test = any(path == top or path.startswith(f"{top}/") for top in package.tests)
    return path.endswith(".py") and inside and not test and path not in package.skip
