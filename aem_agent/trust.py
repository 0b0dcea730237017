"""What a folder from elsewhere would have done here: code its record names, programs it starts, where it sends the key.

Whoever types a name trusts it. A name read from a folder is another matter: `module:attribute` is imported and called,
and a recorded URL is sent prompts and the key. So names in records are found before anything is imported, and the error
says what to type. What a record may still name is files, and those must have the content it was made with
(`aem_agent.run_hashes`): it cannot have others read that it does not know.
"""

import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from aem_agent.files import quoted
from aem_agent.types import AgentError

PLAIN = frozenset({"base_url", "data", "description", "device", "hashes", "model", "path", "tokenizer"})
"""Settings whose colons name no code: places, words and devices. The model of an evaluation is looked at by itself."""
ACTS = frozenset(
    {"allow_unsafe", "arguments", "chromedriver", "chromium", "image", "namespace", "python", "specs", "wandb"}
)
"""Settings that start programs, leave out a sandbox, fetch images or upload, whatever they are set to."""
FROM_FILES = ("textworld", "auto")
"""Engines to which a game file is code."""
SHOWN = 80
"""Characters of a value in an error."""


class UntrustedRecordError(AgentError):
    """A folder's record names code, programs or a server that nobody named now; the message says how to go on."""


def names_code(name: object) -> bool:
    """Whether a registry would import `name`."""
    return isinstance(name, str) and ":" in name


def acting(settings: Mapping[str, Any]) -> list[str]:
    """Recorded settings, as `key=value`, that import, start, fetch or upload something when they are used."""
    return [f"{key}={str(value)[:SHOWN]}" for key, value in _leaves(settings) if _acts(key, value)]


def acting_in_evaluation(config: Mapping[str, Any], named: Collection[str] = ()) -> list[str]:
    """The same of an evaluation's configuration, but for the settings `named` on the command line."""
    found = acting({key: value for key, value in config.items() if key not in named})
    if "model" not in named and _model_is_code(config.get("model")):
        found.insert(0, f"model={str(config['model'])[:SHOWN]}")
    return found


def require_trust(path: Path, found: Collection[str], command: str) -> None:
    """Raise `UntrustedRecordError` if anything was found in the record at `path`; `command` is to be given again."""
    if found:
        raise UntrustedRecordError(
            f"{path} names what would be imported, started or fetched here, as you: {'; '.join(found)}. If it is your "
            f"own, or you trust these, add --trust: {command} --trust"
        )


def require_named_url(path: Path, config: Mapping[str, Any], command: str) -> None:
    """A recorded endpoint is asked only if it is named now.

    Raises:
        UntrustedRecordError: it is not in $OPENAI_BASE_URL, nor OpenAI's own, nor on this machine while no key is set.
        EngineError: it is no URL.
    """
    if (url := unnamed_url(config)) is not None:
        sent = "your key (OPENAI_API_KEY)" if os.environ.get("OPENAI_API_KEY", "").strip() else "the prompts"
        raise UntrustedRecordError(
            f"{path} wants {url} to be sent {sent}: add --base-url to go on, if you know that server: "
            f"{command} --base-url {shlex.quote(url)}"
        )


def unnamed_url(config: Mapping[str, Any]) -> str | None:
    """The endpoint of an evaluation, where resuming it needs `--base-url`."""
    model, recorded = str(config.get("model")), config.get("base_url")
    if not (recorded and model.startswith("openai:")):
        return None
    from aem_agent.engines.endpoint import DEFAULT_BASE_URL
    from aem_agent.engines.endpoint_url import checked_url, is_local

    url = checked_url(str(recorded))
    if url in (DEFAULT_BASE_URL, os.environ.get("OPENAI_BASE_URL", "").rstrip("/")):
        return None
    return None if is_local(url) and not os.environ.get("OPENAI_API_KEY", "").strip() else url


def same_url(one: object, other: object) -> bool:
    """Whether both are one base URL: slashes at the end do not count."""
    return isinstance(one, str) and isinstance(other, str) and one.rstrip("/") == other.rstrip("/")


def resume_command(path: Path, config: Mapping[str, Any], *, trust: bool) -> str:
    """What plays the rest of an evaluation of one's own; `trust`: it was begun with --trust."""
    word = " --trust" if trust or acting_in_evaluation(config) else ""
    url = unnamed_url(config)
    server = "" if url is None else f" --base-url {shlex.quote(url)}"
    return f"aem-eval run --resume {quoted(path)}{word}{server}"


def _model_is_code(model: object) -> bool:
    """As `aem_agent.policies.make_policy` reads it."""
    kind, _, rest = str(model).partition(":")
    return names_code(model) and not (kind in ("scripted", "openai") and rest) and not Path(str(model)).is_dir()


def _acts(key: str, value: object) -> bool:
    name = key.rpartition(".")[2]
    if name in ACTS:
        return value not in (None, False)
    return names_code(value) or (name == "engine" and value in FROM_FILES)


def _leaves(settings: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted keys; of a list each has the key of the whole."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key not in PLAIN or (isinstance(value, Mapping) and key != "hashes"):
                yield from _leaves(value, f"{where}.{key}".lstrip("."))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _leaves(value, where)
    else:
        yield where, settings
