"""From the name a user gives (`random`, `expert`, `scripted:FILE`, `openai:NAME`, a model folder) to a policy."""

from pathlib import Path

from aem_agent.evaluate import EvalConfig, EvaluationError
from aem_agent.policies import ExpertPolicy, RandomPolicy, ScriptedPolicy
from aem_agent.types import Policy
from aem_envs.plugins import experts


def choose_policy(config: EvalConfig, *, device: str = "cpu") -> Policy:
    """The policy that `config.model` names.

    Raises:
        EvaluationError: no such policy; lists what there is.
        AgentError: its own trouble, as a folder without weights or an endpoint without a URL.
    """
    name, env_id = config.model, config.env_id.rpartition(":")[2]
    known = [e.removeprefix(f"{env_id}/") for e in experts.names() if e.startswith(f"{env_id}/")]
    if name == "random":
        return RandomPolicy()
    if name in known:
        return ExpertPolicy(name)
    kind, _, rest = name.partition(":")
    if kind == "scripted" and rest:
        return ScriptedPolicy.from_file(Path(rest))
    choices = ", ".join(["random", *known, "scripted:FILE", "openai:NAME"])
    raise EvaluationError(f"{name!r} is no policy for {env_id} and no folder; known: {choices}, or a model folder")
