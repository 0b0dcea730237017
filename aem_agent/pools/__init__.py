"""Where environments live: in this process, in worker processes, or on other machines. The rollout manager talks to a
pool through the two protocols of `base`, and plays the same episodes with any of them.

`pools` maps names to classes; `module:Class` of your own works wherever a name does, as in `aem-eval run --pool`.
"""

from typing import Any

from aem_agent.pools.base import EnvPool, EnvSession, MakeEnv, PoolLimits, Step
from aem_agent.pools.in_process import InProcessPool
from aem_envs.plugins import Registry

__all__ = ["EnvPool", "EnvSession", "InProcessPool", "MakeEnv", "PoolLimits", "Step", "make_pool", "pools"]

pools: "Registry[Any]" = Registry("pools")
"""Name to a class `(make_env, *, workers, limits) -> EnvPool`."""
pools.add("inline", "aem_agent.pools.in_process:InProcessPool")
pools.add("processes", "aem_agent.pools.processes:ProcessPool")
pools.add("ray", "aem_agent.pools.ray_pool:RayPool")


def make_pool(name: str, make_env: MakeEnv, *, workers: int | None = None, limits: PoolLimits | None = None) -> EnvPool:
    """The pool of that name over environments that `make_env` makes.

    Args:
        make_env: makes one environment; for pools of other processes it must be picklable: a function of a module, or
            a `functools.partial` of one.
        workers: processes or actors; None: as many as this machine has processors, at most 8. `inline` ignores it.
        limits: None: `PoolLimits()`.

    Raises:
        UnknownPluginError: no such pool.
        PoolError: its package is not installed, or `make_env` cannot be sent to another process.
    """
    pool: EnvPool = pools.get(name)(make_env, workers=workers, limits=limits or PoolLimits())
    return pool
