"""One small registry for everything others may add: experts, prompt specs, parsers, engines, estimators, losses."""

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from aem_envs.core import AemEnvError, BadOptionError, Expert
from aem_envs.extras import advice
from aem_envs.registration import known_spec

T = TypeVar("T")


class UnknownPluginError(AemEnvError, KeyError):
    """No such name, or `module:attribute` that cannot be loaded; the message lists the known names."""

    __str__ = Exception.__str__


class Registry(Generic[T]):
    """Names to objects, loaded on first use.

    A name is looked up among those added here, then among installed entry points of the group `aem_suite.<kind>`; one
    with a colon is imported as `module:attribute`. The module is the user's own code: it runs.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T | str] = {}

    def add(self, name: str, target: T | str) -> None:
        """Add an object, or a `module:attribute` string that is imported when asked for."""
        self._entries[name] = target

    def names(self) -> list[str]:
        """All known names, sorted."""
        return sorted({*self._entries, *_installed(self.kind)})

    def get(self, name: str) -> T:
        """The object called `name`; raises `UnknownPluginError`."""
        if name in self._entries:
            target = self._entries[name]
            if isinstance(target, str):
                target = self._entries[name] = self._load(target)
            return target
        if entry := _installed(self.kind).get(name):
            loaded: T = entry.load()
            return loaded
        if ":" in name:
            return self._load(name)
        raise UnknownPluginError(f"unknown {self.kind} {name!r}; known: {', '.join(self.names())}, or module:attribute")

    def _load(self, path: str) -> T:
        module, _, attribute = path.partition(":")
        try:
            found: Any = import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise UnknownPluginError(f"cannot load {self.kind} {path!r}: {advice(error) or error}") from error
        return found  # type: ignore[no-any-return]


@cache
def _installed(kind: str) -> dict[str, EntryPoint]:
    """Entry points by name, read once per process: it takes some ten milliseconds."""
    return {entry.name: entry for entry in entry_points(group=f"aem_suite.{kind}")}


experts: "Registry[Any]" = Registry("experts")
"""`"<env id>/<expert name>"` to a factory `(**options) -> Expert`."""


def make_expert(env_id: str, name: str = "expert", **options: Any) -> Expert:
    """The expert `name` of the environment `env_id` ("module:EnvId" works too), or `name` itself as "module:factory".

    Raises:
        UnknownEnvError: no such environment.
        UnknownPluginError: it has no such expert; says which it has.
        BadOptionError: it does not take these options.
    """
    if ":" in env_id:
        module, _, env_id = env_id.partition(":")
        import_module(module)  # the user's own module: it adds its experts on import, as `gym.make` does
    key = name if ":" in name else f"{env_id}/{name}"
    if ":" not in name and key not in (known := experts.names()):
        known_spec(env_id)
        own = [other.removeprefix(f"{env_id}/") for other in known if other.startswith(f"{env_id}/")]
        raise UnknownPluginError(f"{env_id} has no expert {name!r}; it has: {', '.join(own) or 'none'}")
    factory = experts.get(key)
    try:
        expert: Expert = factory(**options)
    except TypeError as error:
        raise BadOptionError(f"expert {key!r} does not take {options}: {error}") from error
    return expert
