"""A running training: what a recipe turns into, what is done around the steps, and what is written down."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.devices import torch_device
from aem_agent.model.interface import LanguageModel, load_model, load_tokenizer
from aem_agent.records import dump_line
from aem_agent.rollout import RolloutManager
from aem_agent.run_folder import RunFolder, write_atomically
from aem_agent.seeds import episode_seed
from aem_agent.types import Episode, Policy, RolloutGroup, TaskRef
from aem_envs.core import TextEnv
from trainer import checkpoints, rollouts
from trainer.advantages import Estimator, estimators, uses_critic
from trainer.agent import Agent
from trainer.batch import completed
from trainer.checkpoints import STAGES, Checkpoint, Progress
from trainer.config import TrainConfig
from trainer.errors import CheckpointError
from trainer.evaluation import Evaluation, evaluation_of, mean_success
from trainer.export import export_model, preset_folder
from trainer.metrics import Clock, MetricsLog
from trainer.progress import Reporter
from trainer.scoring import Critic
from trainer.sync import push
from trainer.update import Learner, make_optimiser

RL = STAGES.index("rl")
SCORE = "score.json"
"""Beside the weights that `best` points to: the score they were chosen by."""

When = Literal["before", "during", "after"]


class Session:
    """One run in one folder. `trainer.runs` makes or resumes it; `trainer.loop.train` drives it.

    Every random stream is derived from (seed, purpose, step), so there is no generator state to save: a run that goes
    on from a checkpoint draws what it would have drawn.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder, reporter: Reporter) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.folder = folder
        self.reporter = reporter
        self.clock = Clock()
        self.log = MetricsLog(folder.path / "metrics.jsonl")
        self.device = torch_device(config.device)
        self.pools = rollouts.task_pools(config)
        source = (
            Path(config.model.path) if config.model.path else preset_folder(config, folder.path / "init", self.pools)
        )
        self.model: LanguageModel = load_model(source, device=self.device)
        self.source = source
        tokenizer = load_tokenizer(source)
        self.engine = TorchEngine(self.model, tokenizer, share=True, max_batch=config.rollout.concurrency)
        self.agent = Agent(config, self.engine, tokenizer, self.model.max_positions, source)
        self.estimator: Estimator = estimators.get(config.algorithm.estimator)
        self.progress = Progress(0, 0)
        self.saved: Progress | None = None
        self.learner = self.new_learner(config.optimiser.lr)

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def at_start_of_rl(self) -> bool:
        """Nothing of RL is done yet, not even the evaluation before it."""
        done = any(r["when"] == "before" and r["temperature"] == 0 for r in self.log.of("evaluation"))
        return self.progress == Progress(RL, 0) and not done

    def new_learner(self, lr: float) -> Learner:
        """The model with fresh optimisers, and a critic where the estimator needs one."""
        optimiser = make_optimiser(self.model.parameters(), lr, self.config.optimiser)
        if not uses_critic(self.estimator):
            return Learner(self.model, optimiser)
        critic = Critic(self.model.hidden_size, self.generator("critic", 0)).to(self.device)
        own = make_optimiser(critic.parameters(), self.config.algorithm.critic_lr, self.config.optimiser)
        return Learner(self.model, optimiser, critic, own)

    def begin_stage(self, stage: int) -> None:
        """Enter a stage with fresh optimisers."""
        self.progress = Progress(stage, 0)
        self.learner = self.new_learner(self.config.optimiser.lr)

    def generator(self, purpose: str, step: int) -> torch.Generator:
        """The random stream of one purpose at one step, on the model's device for shuffles of device tensors."""
        device = self.device if purpose == "shuffle" else "cpu"
        return torch.Generator(device=device).manual_seed(self.seed(purpose, step))

    def seed(self, purpose: str, step: int = 0) -> int:
        """The seed of that stream."""
        return episode_seed(self.config.seed, f"trainer: {purpose}", step)

    def set_learning_rate(self, step: int) -> None:
        """Linear rise over `optimiser.warmup_steps` RL steps, linear fall to `optimiser.final_lr` at the last."""
        config = self.config.optimiser
        rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
        fall = 1 - (1 - config.final_lr) * step / max(1, self.config.steps - 1)
        for group in self.learner.optimiser.param_groups:
            group["lr"] = config.lr * rise * fall

    # -- rollouts -----------------------------------------------------------------------------------------------------

    def collect(self, step: int) -> list[RolloutGroup]:
        """The rollout groups of one RL step."""
        pool = self.pools[step % len(self.pools)]
        tasks = rollouts.tasks_of_step(pool, step, self.config.rollout.tasks, self.config.seed)
        policy = self.agent.policy(self.config.rollout.temperature, entropies=True)
        env = partial(rollouts.make_env, self.config, training=True, variant=step)
        return self._play(env, policy, tasks, self.config.rollout.group_size, self.seed("rollout", step))

    def _play(
        self, env: Callable[[], TextEnv], policy: Policy, tasks: Sequence[TaskRef], repeats: int, seed: int
    ) -> list[RolloutGroup]:
        async def run() -> list[RolloutGroup]:
            manager = RolloutManager(env, policy, concurrency=self.config.rollout.concurrency, retries=1)
            try:
                return await manager.collect(tasks, repeats, seed=seed)
            finally:
                await manager.aclose()

        return asyncio.run(run())

    def final_prompts(self, groups: Sequence[RolloutGroup]) -> list[tuple[int, ...]]:
        """What each episode's next prompt would have been (a critic values truncated ends); empty without a critic."""
        if self.learner.critic is None:
            return []
        return [self.agent.next_prompt(episode) for group in groups for episode in completed(group)]

    def push_weights(self) -> None:
        """Newest weights to the engine."""
        push(self.model, self.engine)

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def evaluation_due(self, step: int) -> bool:
        """Evaluations during RL, the last step's included, choose the best weights."""
        every = self.config.evaluation.every
        return bool(every) and (step % every == 0 or step == self.config.steps)

    def evaluate(self, when: When) -> list[Evaluation]:
        """Held-out success at the evaluation temperature and greedily: logged and shown."""
        config = self.config.evaluation
        interim = when == "during"
        split = (config.interim_split or config.split) if interim else config.split
        tasks = rollouts.held_out(self.config, split, config.interim_tasks if interim else config.tasks)
        env = partial(rollouts.make_env, self.config, training=False)
        found: list[Evaluation] = []
        with self.clock("evaluate"), self.reporter.phase(f"evaluation {when} RL"):
            for temperature in dict.fromkeys((config.temperature, 0.0)):
                policy = self.agent.policy(temperature)
                groups = self._play(env, policy, tasks, 1, self.seed("evaluation"))
                found.append(evaluation_of(groups, split, temperature))
        for evaluation in found:
            self.write("evaluation", {"when": when, **evaluation.summary(), **self.clock.take()})
        self.reporter.evaluated(when, found)
        if not interim:
            self.save_samples(when, found[-1].episodes[: config.sample_episodes])
        return found

    def save_samples(self, when: str, episodes: Sequence[Episode]) -> None:
        """Keep episodes for the report."""
        write_atomically(self.folder.path / f"samples-{when}.jsonl", b"".join(map(dump_line, episodes)))

    def keep_if_best(self, found: Sequence[Evaluation]) -> None:
        """Export the weights if they do better than all that were evaluated during RL before them."""
        score, best = mean_success(found), self.best
        if best is None or score > best:
            self.export(score)

    @property
    def best(self) -> float | None:
        """The score that the weights in `best` were chosen by; None if none were.

        It is read from beside them, not from a checkpoint: whenever a run was stopped, score and weights agree.
        """
        path = self.folder.path / "best" / SCORE
        try:
            return float(json.loads(path.read_bytes())) if path.exists() else None
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}): remove it, and the next best is kept") from error

    def export(self, score: float | None = None) -> None:
        """Write the weights as a model folder, with the score they were chosen by, and let `best` point to it."""
        models = self.folder.path / "models"
        target = models / self.progress.name

        def write(folder: Path) -> None:
            export_model(self.model, self.agent, self.source, folder)
            if score is not None:
                (folder / SCORE).write_text(json.dumps(score), encoding="utf-8")

        checkpoints.write_folder(target, write)
        checkpoints.point(self.folder.path / "best", target)
        checkpoints.remove_all_but(models, target)

    def export_start(self) -> None:
        """Write the weights that RL starts from to `warmstart`, so that both stages can be evaluated anywhere."""
        checkpoints.write_folder(
            self.folder.path / "warmstart", partial(export_model, self.model, self.agent, self.source)
        )

    def adopt_best(self) -> None:
        """Go back to the best weights that evaluations during RL have found; without any, export the last ones."""
        if self.best is None:
            self.export()
            return
        state = load_model(self.folder.path / "best").state_dict()
        cast(nn.Module, self.model).load_state_dict(state)
        self.push_weights()

    # -- record -------------------------------------------------------------------------------------------------------

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """One line of metrics at the present progress."""
        self.log.write(kind, self.progress.stage, self.progress.step, values)

    def finish_rl_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Count the step and write its metrics."""
        self.progress = Progress(RL, step)
        self.write("rl", {**metrics, **self.clock.take()})
        self.reporter.rl_step(step, self.config.steps, self.log.records[-1])

    def finish_stage(self) -> None:
        """Write down how long the phases of a warm start's stage took."""
        self.write("phase", self.clock.take())

    def finish_clone_step(self, stage: int, step: int) -> None:
        """Count an optimiser step of the warm start."""
        self.progress = Progress(stage, step)

    def maybe_save(self) -> None:
        """Save if a checkpoint is due."""
        if self.progress.step % self.config.checkpoint.every == 0 or self.progress.step == self.config.steps:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of the present state, unless it is there already."""
        if self.saved == self.progress:
            return
        learner = self.learner
        optimiser = {"policy": learner.optimiser.state_dict(), "torch_rng": torch.get_rng_state()}
        if learner.critic is not None and learner.critic_optimiser is not None:
            optimiser |= {
                "critic": learner.critic.state_dict(),
                "critic_optimiser": learner.critic_optimiser.state_dict(),
            }
        checkpoint = Checkpoint(self.progress, self.model.state_dict(), optimiser)
        checkpoints.save(self.folder.path / "checkpoints", checkpoint, keep=self.config.checkpoint.keep)
        self.saved = self.progress

    def restore(self) -> None:
        """Continue from the newest checkpoint, if there is one, and forget metrics of what is done again."""
        found = checkpoints.load_latest(self.folder.path / "checkpoints")
        if found is None:
            self.log.rewind(-1, 0)
            return
        self.begin_stage(found.progress.stage)
        self.progress = self.saved = found.progress
        cast(nn.Module, self.model).load_state_dict(found.model)
        self.learner.optimiser.load_state_dict(found.optimiser["policy"])
        if self.learner.critic is not None and self.learner.critic_optimiser is not None:
            self.learner.critic.load_state_dict(found.optimiser["critic"])
            self.learner.critic_optimiser.load_state_dict(found.optimiser["critic_optimiser"])
        torch.set_rng_state(found.optimiser["torch_rng"])
        self.log.rewind(found.progress.stage, found.progress.step)
        self.push_weights()
