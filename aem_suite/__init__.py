"""The commands `aem-envs`, `aem-data`, `aem-eval` and `aem-train`: standard library only, until one is to act.

`aem_suite.__version__` is the version of the installed distribution, which pyproject.toml alone says.
"""


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aem_suite.version import installed_version  # when asked for: reading metadata takes longer than --help may

    return installed_version()
