"""What there is to know about an environment before using it, for `aem-envs info`."""

import inspect
from dataclasses import asdict
from typing import Any

from aem_envs.core import BadOptionError, TextEnv
from aem_envs.plugins import experts
from aem_envs.registration import env_class, keyword_arguments, make_env

_EXAMPLES = 3


def describe(env_id: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Plain data on the environment made with `settings`: documentation, spaces, splits, arguments, experts, ….

    Raises:
        What `make_env` raises.
    """
    env = make_env(env_id, **settings)
    try:
        return {
            "id": env_id,
            "class": f"{type(env).__module__}:{type(env).__qualname__}",
            "doc": inspect.getdoc(type(env)) or "",
            "observation_space": repr(env.observation_space),
            "action_space": repr(env.action_space),
            "render_modes": list(env.metadata["render_modes"]),
            "max_steps": env.max_steps,
            "splits": {split: _split(env, split) for split in env.splits},
            "arguments": {
                name: None if parameter.default is inspect.Parameter.empty else parameter.default
                for name, parameter in keyword_arguments(env_class(env_id)).items()
            },
            "capabilities": asdict(env.capabilities),
            "experts": sorted(
                name.rpartition("/")[2]
                for name in experts.names()
                if name.rpartition("/")[0] == env_id.rpartition(":")[2]
            ),
        }
    finally:
        env.close()


def _split(env: TextEnv, split: str) -> dict[str, Any]:
    """Number of tasks (None: without end) and the first few."""
    try:
        ids = env.task_ids(split)
    except BadOptionError:
        return {"tasks": None, "first": list(env.task_ids(split, _EXAMPLES))}
    return {"tasks": len(ids), "first": list(ids[:_EXAMPLES])}


def as_text(found: dict[str, Any]) -> str:
    """`describe`'s answer for a terminal."""
    able = [name for name, able in found["capabilities"].items() if able]
    lines = [found["id"], f"({found['class']})", "", found["doc"], "", "Arguments (--env KEY=VALUE):"]
    lines += [f"  {name}={default}" for name, default in found["arguments"].items()]
    lines += ["", "Splits:"]
    for name, split in found["splits"].items():
        count = "no end" if split["tasks"] is None else f"{split['tasks']} tasks"
        lines.append(f"  {name}: {count}; first: {', '.join(split['first']) or 'none'}")
    lines += [
        "",
        f"Capabilities: {', '.join(able) or 'none'}",
        f"Experts: {', '.join(found['experts']) or 'none'}",
        f"Spaces: observation {found['observation_space']}, action {found['action_space']}",
        f"Render modes: {', '.join(found['render_modes'])}; steps per episode: {found['max_steps']}",
    ]
    return "\n".join(lines)
