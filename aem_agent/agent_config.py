"""`aem.json` of a model folder: the prompts, parser and sampling a model was trained with, so that evaluation
repeats them.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from aem_agent.parsers import Parser
from aem_agent.prompts import PromptSpec
from aem_agent.registry import parsers, prompt_specs
from aem_agent.run_folder import write_json
from aem_agent.trust import UntrustedRecordError, names_code
from aem_agent.types import AgentError, Sampling
from aem_envs.core import AemEnvError

FILE = "aem.json"


class AgentConfigError(AgentError):
    """An `aem.json` that cannot be read, or options that a spec or parser does not take."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """How a model is spoken to."""

    prompt: str = "plain"
    """Name of the prompt spec, or "module:attribute"."""
    prompt_options: dict[str, Any] = field(default_factory=dict)
    """Its options, such as `window`."""
    parser: str | None = None
    """Name of the parser; None: the one that fits the spec."""
    parser_options: dict[str, Any] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    context_limit: int | None = None
    """Tokens of prompt and response together; None: what the model takes."""

    @classmethod
    def load(cls, folder: Path, *, trust: bool = False, prompt: str | None = None) -> "AgentConfig | None":
        """The configuration in a model folder; None if it has none.

        A `module:attribute` in it is imported and called with options of the file's, so only if `trust` is set, or for
        the prompt spec if it is `prompt`, which the caller names.

        Raises:
            AgentConfigError: a damaged file, or one with unknown keys.
            UntrustedRecordError: it names code.
        """
        file = folder / FILE
        try:
            data = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise AgentConfigError(f"cannot read {file}: {error}") from error
        try:
            sampling = data.pop("sampling", {})
            for name in ("stop", "stop_token_ids"):
                sampling[name] = tuple(sampling.get(name, ()))
            config = cls(**data, sampling=Sampling(**sampling))
        except (TypeError, AttributeError) as error:
            known = ", ".join(f.name for f in fields(cls))
            raise AgentConfigError(f"{file} is not a configuration of these fields: {known} ({error})") from error
        named = {"prompt": None if config.prompt == prompt else config.prompt, "parser": config.parser}
        found = [f"{key}={name}" for key, name in named.items() if names_code(name)]
        if found and not trust:
            raise UntrustedRecordError(
                f"{file} names code that would be imported here, as you: {'; '.join(found)}. If the model is your own, "
                "or you trust these, add --trust (in Python: trust=True)"
            )
        config.build()
        return config

    def save(self, folder: Path) -> None:
        """Write `aem.json` into a model folder, atomically."""
        write_json(folder / FILE, asdict(self))

    def build(self) -> tuple[PromptSpec, Parser]:
        """The spec and the parser.

        Raises:
            AgentConfigError: options they do not take.
            UnknownPluginError: names that are not registered.
        """
        spec: PromptSpec = _made(prompt_specs.get(self.prompt), self.prompt, self.prompt_options)
        name = self.parser or spec.parser
        parser: Parser = _made(parsers.get(name), name, self.parser_options)
        return spec, parser


def _made(factory: Any, name: str, options: dict[str, Any]) -> Any:
    try:
        return factory(**options)
    except (TypeError, AgentError, AemEnvError) as error:
        raise AgentConfigError(f"{name!r} does not take {options}: {error}") from error
