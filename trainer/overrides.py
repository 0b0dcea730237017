"""Configurations from outside: `key=value` overrides with typed errors, JSON and back, and a hash."""

import copy
import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from hashlib import sha256
from inspect import Parameter, signature
from typing import Any, Literal, TypeVar

import trainer.config
from aem_envs.cli_common import parse_value
from trainer.config import ConfigError, TrainConfig
from trainer.config_rules import check_used

Config = TypeVar("Config")


def override(config: Config, settings: Sequence[str]) -> Config:
    """`config` with settings such as `"optimiser.lr=1e-3"` applied, each value checked against its field's type.

    Another `rollout.engine` starts without the options that the recipe gives to its own.

    Raises:
        ConfigError: unknown key (with the nearest known one), a value of the wrong type, a value `check` refuses, or
            a setting of the algorithm that nothing reads.
    """
    if isinstance(config, TrainConfig) and _other_engine(config.rollout.engine, settings):
        config = _changed(config, "rollout", _changed(config.rollout, "engine_options", {}))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"malformed setting {setting!r}: write key=value, as in optimiser.lr=1e-3")
        config = _set(config, key.split("."), text, key)
    whole: Config = replace(config)  # type: ignore[type-var]  # checked as a whole: settings may need one another
    if isinstance(whole, TrainConfig):
        check_used(whole, [setting.partition("=")[0] for setting in settings])
    return whole


def _other_engine(engine: str, settings: Sequence[str]) -> bool:
    named = [text for key, _, text in (setting.partition("=") for setting in settings) if key == "rollout.engine"]
    return bool(named) and named[-1] != engine


def _changed(config: Any, name: str, value: Any) -> Any:
    """A copy with another value, not checked yet."""
    other = copy.copy(config)
    object.__setattr__(other, name, value)
    return other


def _set(config: Any, path: list[str], text: str, key: str) -> Any:
    head, rest = path[0], path[1:]
    if isinstance(config, Mapping):
        if rest or not head.isidentifier():
            raise ConfigError(
                f"{key!r}: nothing lies below a free setting; write {key.rsplit('.', len(rest))[0]}=value"
            )
        return {**config, head: parse_value(text)}
    hints = typing.get_type_hints(type(config))
    if head not in hints:
        raise ConfigError(f"unknown key {key!r}{_suggestion(head, key, type(config))}")
    value = getattr(config, head)
    if is_dataclass(value) or isinstance(value, Mapping):
        if not rest:
            names = [f.name for f in fields(value)] if is_dataclass(value) else ["NAME"]
            raise ConfigError(f"{key!r} is a group of settings: write {key}.{names[0]}=… (it has {', '.join(names)})")
        return _changed(config, head, _set(value, rest, text, key))
    if rest:
        raise ConfigError(f"unknown key {key!r}: {head!r} has no parts")
    return _changed(config, head, _typed(text, hints[head], key))


def _suggestion(head: str, key: str, kind: type) -> str:
    """ ": did you mean …?", looking at this level first, then at all keys."""
    here = [f.name for f in fields(kind)]
    near = difflib.get_close_matches(head, here, n=1, cutoff=0.6)
    if near:
        parts = key.split(".")
        parts[parts.index(head)] = near[0]
        return f": did you mean {'.'.join(parts)!r}?"
    everything, tail = known_keys(TrainConfig), key.rsplit(".", 1)[-1]
    near = [k for k in everything if k.rsplit(".", 1)[-1] == tail]
    near = near or difflib.get_close_matches(key, everything, n=1, cutoff=0.5)
    return f": did you mean {' or '.join(map(repr, near))}?" if near else f"; known here: {', '.join(here)}"


def known_keys(kind: Any, prefix: str = "") -> list[str]:
    """All dotted keys of a config class; free settings end in `.*`."""
    keys: list[str] = []
    for name, hint in typing.get_type_hints(kind).items():
        if is_dataclass(hint):
            keys += known_keys(hint, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}{'.*' if typing.get_origin(hint) is not None and _is_mapping(hint) else ''}")
    return keys


def _is_mapping(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _typed(text: str, hint: Any, key: str) -> Any:
    """`text` as a value of the type `hint`; raises `ConfigError`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if text in args:
            return text
        raise ConfigError(f"{key}={text!r}: choose {', '.join(map(str, args))}")
    if origin in (typing.Union, types.UnionType):
        if text.lower() in ("none", "null"):
            return None
        return _typed(text, next(a for a in args if a is not type(None)), key)
    if origin is tuple:
        parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
        kinds = [args[0]] * len(parts) if args[-1] is Ellipsis else list(args)
        if len(parts) != len(kinds):
            raise ConfigError(f"{key}={text!r} needs {len(kinds)} values separated by commas")
        return tuple(_typed(part, kind, key) for part, kind in zip(parts, kinds))
    if hint is str:
        return text
    value = parse_value(text)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    raise ConfigError(f"{key}={text!r} is not {_NAMES.get(hint, hint)}")


_NAMES: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}


def misspelt(message: str) -> str:
    """The nearest key, where `message` is Python's about a keyword that one of the config classes does not take."""
    found = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", message)
    kind = getattr(trainer.config, found[1], None) if found else None
    if found is None or not is_dataclass(kind):
        return ""
    return _nearest(found[2], [f.name for f in fields(kind)])


def check_options(
    key: str, function: Callable[..., Any], options: Mapping[str, Any], *, hidden: Sequence[str] = ()
) -> None:
    """Raise `ConfigError` for the first of the free settings below `key` that `function`, which gets them, lacks.
    Those in `hidden` are not named as ones that it knows."""
    parameters = signature(function).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in options:
        if name not in parameters:
            known = [parameter for parameter in parameters if parameter not in hidden]
            raise ConfigError(f"unknown key '{key}.{name}'{_nearest(name, known, f'{key}.')}")


def check_option_types(key: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a free setting below `key` that is not of the type `function` has it annotated with."""
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # someone else's code, with names that are not there when it runs
        return
    named = {n for n, p in signature(function).parameters.items() if p.kind is not Parameter.VAR_KEYWORD}
    for name, value in options.items():
        if name in named and name in hints and not _fits(value, hints[name]):
            raise ConfigError(f"{key}.{name}={value!r} is not {_NAMES.get(hints[name], _called(hints[name]))}")


def _nearest(name: str, known: Sequence[str], prefix: str = "") -> str:
    """ ": did you mean …?", or all that is known."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f": did you mean {prefix + near[0]!r}?" if near else f"; known here: {', '.join(known) or 'none'}"


def check_types(config: Any, prefix: str = "") -> None:
    """Raise `ConfigError` for a field whose value is not of its type: a recipe file is Python, which does not look."""
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _fits(value, hint):
            raise ConfigError(f"{prefix}{name}={value!r} is not of the type {_called(hint)}")
        if is_dataclass(value):
            check_types(value, f"{prefix}{name}.")


def _called(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if not isinstance(origin or hint, type) and origin not in (Literal, typing.Union):
        return True  # Any, a type variable, …
    if getattr(hint, "_is_protocol", False):
        return True
    if origin is Literal:
        return value in args
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, kind) for kind in args)
    if origin is tuple:
        kinds = [args[0]] * len(value) if isinstance(value, tuple) and args[-1] is Ellipsis else list(args)
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float and isinstance(value, int):
        return not isinstance(value, bool)
    return isinstance(value, origin or hint) and isinstance(value, bool) == (hint is bool)


def to_json(config: Any) -> dict[str, Any]:
    """`config` as plain JSON data."""
    data: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return data


def from_json(data: Any, kind: Any = TrainConfig) -> Any:
    """The config that `to_json` wrote, in this version or an earlier one: settings that are newer have their defaults,
    which is what was done before there were any.

    Raises:
        ConfigError: settings that this version does not have, or none of the right shape.
    """
    hints = typing.get_type_hints(kind)
    if not isinstance(data, Mapping):
        raise ConfigError(f"not a configuration: {kind.__name__} is a {type(data).__name__}")
    if odd := sorted(set(data) - set(hints)):
        raise ConfigError(f"this version has no {', '.join(odd)} in {kind.__name__}")
    values = {}
    for name in data:
        value, hint = data[name], hints[name]
        value = from_json(value, hint) if is_dataclass(hint) else tuple(value) if isinstance(value, list) else value
        if not _fits(value, hint):
            raise ConfigError(f"{kind.__name__}.{name}={str(value)[:80]} is not of the type {_called(hint)}")
        values[name] = value
    return kind(**values)


def config_hash(config: TrainConfig) -> str:
    """Hash of everything that decides a run's figures (the description does not)."""
    return sha256(json.dumps(to_json(replace(config, description="")), sort_keys=True).encode()).hexdigest()[:16]
