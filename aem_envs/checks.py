"""`check_text_env`: the whole contract, checked on a live environment. Third parties run it on theirs."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from aem_envs.contract import CHECKS
from aem_envs.contract_tools import ContractError
from aem_envs.core import TextEnv

__all__ = ["CheckResult", "ContractError", "check_text_env", "run_checks"]


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    name: str
    error: str | None = None
    """None if the contract holds."""


def check_text_env(env: gym.Env[Any, Any]) -> None:
    """Check the whole contract on `env` (made by `gym.make`), Gymnasium's own `check_env` included.

    Raises:
        ContractError: what is broken, all of it.
    """
    failed = [f"{result.name}: {result.error}" for result in run_checks(env) if result.error]
    if failed:
        raise ContractError(f"{type(env.unwrapped).__name__} breaks the contract of TextEnv\n" + "\n".join(failed))


def run_checks(env: gym.Env[Any, Any]) -> list[CheckResult]:
    """Run every check, in order, and report each. Leaves `env` open, in an unspecified episode."""
    text_env = env.unwrapped
    if not isinstance(text_env, TextEnv):
        return [CheckResult("type", f"{type(text_env).__name__} is not a TextEnv")]
    results = []
    for check in CHECKS:
        error = None
        try:
            check(text_env)
        except Exception as problem:  # whatever a stranger's environment raises is the finding
            error = f"{type(problem).__name__}: {problem}"
        results.append(CheckResult(check.__name__.removeprefix("_").replace("_", " "), error))
    return results
