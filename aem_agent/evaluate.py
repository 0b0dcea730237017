"""Evaluation: choose tasks, play them with a policy, record every episode, sum up.

The order of a run: `prepare` resolves what was asked for (so that mistakes show before anything is loaded or written),
`evaluate` plays what the run folder lacks, `summarize_folder` turns records into `summary.json` and `report.html`.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from aem_agent.export import predictions
from aem_agent.pools import PoolLimits, make_pool
from aem_agent.prices import Prices
from aem_agent.report.evaluation import evaluation_page
from aem_agent.rollout import RolloutManager
from aem_agent.run_folder import RunFolder, write_atomically
from aem_agent.run_hashes import run_hashes
from aem_agent.summary import Summary, summarize
from aem_agent.types import AgentError, Episode, Policy, RolloutInterruptedError, TaskRef
from aem_envs import registration
from aem_envs.cli_common import Setting
from aem_envs.core import AemEnvError, TextEnv
from aem_envs.sanitize import counted

MAX_DEFAULT_TASKS = 1000
"""Without a number of tasks, splits up to this size are played whole."""


class EvaluationError(AgentError):
    """An evaluation that cannot be run as asked; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class EvalConfig:
    """What defines an evaluation: equal configurations play the same episodes, and only they may share a run folder."""

    env_id: str
    """As `gym.make` takes it: "aem/Toy-v0", or "module:EnvId"."""
    model: str
    """`random`, `expert`, `expert-search`, `scripted:FILE`, `openai:NAME`, a model folder, or "module:factory"."""
    engine: str | None = None
    """That runs the model: name, or "module:Class"; None: as `make_policy` decides."""
    env: dict[str, Setting] = field(default_factory=dict)
    """Arguments of the environment."""
    split: str | None = None
    """None: the first that is not for training."""
    tasks: int | None = None
    """The first so many of the split; None: all of it."""
    repeats: int = 1
    """Attempts at each task."""
    seed: int = 0
    max_steps: int | None = None
    """None: the environment's own limit."""
    temperature: float = 0.4
    """Of model policies; 0 is greedy."""
    max_new_tokens: int | None = None
    """Tokens a response may have; None: as `make_policy` decides."""
    prompt: str | None = None
    """Name of a prompt spec, or "module:attribute"; None: as `make_policy` decides."""
    base_url: str | None = None
    """Of the endpoint of `openai:NAME`."""
    tokenizer: str | None = None
    """Of the model behind `openai:NAME`, which is then sent token ids: a local folder."""
    prices: tuple[float, float] | None = None
    """US dollars per million tokens of prompt and response, where an endpoint does not say what it costs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An evaluation with nothing left open."""

    config: EvalConfig
    """`split` and `tasks` are set."""
    tasks: tuple[TaskRef, ...]
    hashes: dict[str, str]
    """See `aem_agent.run_hashes`."""

    @property
    def env_id(self) -> str:
        """As `TaskRef` and the registries of experts and prompts know it."""
        return plain_env_id(self.config.env_id)

    @property
    def record(self) -> dict[str, Any]:
        """What `config.json` holds and a resumed run must share."""
        return {**asdict(self.config), "hashes": self.hashes}

    @property
    def episodes(self) -> int:
        """Episodes to play in all."""
        return len(self.tasks) * self.config.repeats


def plain_env_id(env_id: str) -> str:
    """The id without the module that registers it."""
    return env_id.rpartition(":")[2]


def make_env(config: EvalConfig) -> TextEnv:
    """The configured environment; raises what `aem_envs.registration.make_env` raises."""
    limit = {} if config.max_steps is None else {"max_steps": config.max_steps}
    return registration.make_env(config.env_id, **{**config.env, **limit})


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs must share to be compared, from a recorded configuration: environment, split and settings.

    A setting at its default counts as not given. Where data lie does not matter: hashes tell what they hold. The module
    of "module:EnvId" is not imported: a record may come from anywhere.
    """
    env_id = str(config.get("env_id"))
    settings = dict(config.get("env") or {})
    if config.get("max_steps") is not None:
        settings["max_steps"] = config["max_steps"]
    try:
        known = registration.keyword_arguments(registration.env_class(plain_env_id(env_id)))
        defaults = {n: p.default for n, p in known.items()}
    except (ImportError, AemEnvError):  # a third party's, not known here: what was given is compared as it is
        defaults = {}
    given = {n: v for n, v in settings.items() if n != "data" and v is not None and v != defaults.get(n)}
    return {"env_id": plain_env_id(env_id), "split": config.get("split"), "env": given}


def prepare(config: EvalConfig) -> Plan:
    """Resolve the split and the tasks, and check what can be checked before playing.

    Raises:
        EvaluationError: fewer tasks in the split than asked for, a split too large to be meant, numbers out of range.
        AemEnvError, DataError: the environment's own, as for an unknown split or missing data.
    """
    for name, least in (("repeats", 1), ("tasks", 1), ("max_steps", 1), ("max_new_tokens", 1), ("temperature", 0)):
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise EvaluationError(f"{name.replace('_', ' ')} must be at least {least}, not {value}")
    if config.tokenizer is not None and not Path(config.tokenizer).is_dir():
        raise EvaluationError(f"there is no folder {config.tokenizer!r}: --tokenizer is the model's local one")
    if config.base_url and "@" in config.base_url:
        raise EvaluationError("the base URL would be recorded: put credentials into OPENAI_API_KEY, not into it")
    if "split" in config.env:
        raise EvaluationError(f"say --split {config.env['split']}, not --env split={config.env['split']}")
    if "max_steps" in config.env and config.max_steps is not None:
        both = f"--env max_steps={config.env['max_steps']} and --max-steps {config.max_steps}"
        raise EvaluationError(f"the step limit is given twice, by {both}: keep one of them")
    env = make_env(config)
    try:
        split = config.split or next((s for s in env.splits if s != "train"), env.splits[0])
        ids = _choose_tasks(env, split, config.tasks)
    finally:
        env.close()
    hashes = run_hashes(ids, config.model, config.tokenizer)
    plan = Plan(replace(config, split=split, tasks=len(ids)), (), hashes)
    return replace(plan, tasks=tuple(TaskRef(plan.env_id, task_id, split) for task_id in ids))


def _choose_tasks(env: TextEnv, split: str, wanted: int | None) -> list[str]:
    limit = MAX_DEFAULT_TASKS + 1 if wanted is None else wanted
    ids = list(env.task_ids(split, limit))[:limit]
    if wanted is None and len(ids) > MAX_DEFAULT_TASKS:
        raise EvaluationError(f"split {split!r} has more than {MAX_DEFAULT_TASKS} tasks: say how many with -n")
    if wanted is not None and len(ids) < wanted:
        raise EvaluationError(
            f"split {split!r} has {counted(len(ids), 'task')}, {wanted} were asked for: use -n {len(ids)} or less"
        )
    if not ids:
        raise EvaluationError(f"split {split!r} has no task")
    return ids


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run."""

    summary: Summary
    interrupted: bool
    """Stopped by Ctrl-C; the folder can be resumed."""


def open_folder(plan: Plan, path: Path, *, resume: bool) -> RunFolder:
    """The run folder to write to.

    Raises:
        RunFolderError: resumed under another configuration or version; not resumed and a run already.
        EvaluationError: a new run into a folder that holds something else, or a resumed one whose tasks' data changed.
    """
    if resume:
        folder = RunFolder.resume(path, plan.record)
        _require_same_data(plan.config, folder)
        return folder
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / "config.json").exists()):
        raise EvaluationError(f"{path} exists and is not an empty folder: choose another --out")
    return RunFolder.create(path, plan.record)


def _require_same_data(config: EvalConfig, folder: RunFolder) -> None:
    """Refuse to add to episodes of other data under the same task ids: one run would be two benchmarks."""
    recorded = {(e.task_id, e.data_hash) for e in folder.episodes() if e.completed}
    env = make_env(config)
    try:
        changed = sorted(task_id for task_id, data_hash in recorded if env.data_hash(task_id) != data_hash)
    finally:
        env.close()
    if changed:
        raise EvaluationError(
            f"the data of {counted(len(changed), 'task')} played in {folder.path} have changed since ({changed[0]}): "
            "bring the earlier data back, or evaluate anew with another --out"
        )


def evaluate(
    plan: Plan,
    policy: Policy,
    folder: RunFolder,
    *,
    concurrency: int = 16,
    retries: int = 2,
    pool: str = "inline",
    workers: int | None = None,
    limits: PoolLimits | None = None,
    on_episode: Callable[[Episode], None] | None = None,
    on_interrupt: Callable[[], None] | None = None,
) -> Result:
    """Play what `folder` lacks, recording each episode as it ends, and sum up. Ctrl-C drains and sums up what is there.

    `policy` is closed at the end. `pool`, `workers` and `limits` are those of `aem_agent.pools.make_pool`. `on_episode`
    sees every new episode after it was recorded; `on_interrupt` is called at the first Ctrl-C.

    Raises:
        RecordWriteError: the disk is full, or another process writes to the folder.
        BadOptionError, UnknownPluginError: as `RolloutManager.run`; no such pool.
        PoolError: as `make_pool`.
    """
    with folder.writer() as writer:

        def record(episode: Episode) -> None:
            writer.write(episode)
            if on_episode is not None:
                on_episode(episode)

        async def play() -> bool:
            environments = make_pool(pool, partial(make_env, plan.config), workers=workers, limits=limits)
            manager = RolloutManager(
                environments,
                policy,
                concurrency=concurrency,
                retries=retries,
                seed=plan.config.seed,
                on_episode=record,
            )
            try:
                await manager.run(
                    plan.tasks,
                    plan.config.repeats,
                    skip=folder.completed(),
                    handle_signals=True,
                    on_interrupt=on_interrupt,
                )
            except RolloutInterruptedError:
                return True
            finally:
                await manager.aclose()
                await policy.aclose()
            return False

        interrupted = asyncio.run(play())
    return Result(summarize_folder(folder), interrupted)


def ordered_episodes(folder: RunFolder) -> list[Episode]:
    """The folder's episodes in the order that numbers them everywhere: by task id and repeat."""
    return sorted(folder.episodes(), key=lambda e: (e.task_id, e.repeat))


def summarize_folder(folder: RunFolder) -> Summary:
    """Compute `summary.json` and `report.html` from the records, write both, return the summary.

    Where episodes ended with patches, `predictions.jsonl` holds them, for `swebench eval`.

    Raises:
        RecordError: damaged records.
        EvaluationError: a run folder of another kind.
    """
    config = folder.config
    try:
        env_id, split, planned = config["env_id"], config["split"], config["tasks"] * config["repeats"]
    except (KeyError, TypeError) as error:
        raise EvaluationError(f"{folder.path} is not the run of an evaluation: its config lacks {error}") from error
    episodes = ordered_episodes(folder)
    prices = Prices(*config["prices"]) if config.get("prices") else None
    summary = summarize(episodes, env_id=plain_env_id(env_id), split=split, planned=planned, prices=prices)
    folder.write_summary(summary.to_json())
    folder.write_report(evaluation_page(summary, {"config": config, "versions": folder.versions}, episodes))
    if found := predictions(episodes, str(config.get("model"))):
        lines = [json.dumps(prediction) + "\n" for prediction in found]
        write_atomically(folder.path / "predictions.jsonl", "".join(lines).encode("ascii"))
    return summary
