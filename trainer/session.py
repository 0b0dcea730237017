"""A running training: what a recipe turns into, what is done around the steps, and what is written down."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.devices import torch_device
from aem_agent.model.interface import LanguageModel, load_tokenizer
from aem_agent.records import dump_line
from aem_agent.run_folder import RunFolder, write_atomically
from aem_agent.seeds import episode_seed
from aem_agent.types import LocalEngine, RolloutGroup
from trainer import checkpoints, rollouts
from trainer.absent import engine_or_none
from trainer.advantages import Estimator, estimators, uses_critic
from trainer.agent import Agent
from trainer.background import BackgroundLoop
from trainer.batch import completed
from trainer.checkpoints import STAGES, Progress
from trainer.collecting import Collector, Experience
from trainer.config import TrainConfig
from trainer.division import Division
from trainer.engines import engine_class, sequence_limit
from trainer.evaluation import Evaluation, evaluation_of, mean_success
from trainer.export import preset_folder
from trainer.exports import Exports
from trainer.health import Alarm, AlarmError, raise_alarms
from trainer.learner import Learner, learning_rate, make_learner
from trainer.metrics import Clock, MetricsLog
from trainer.parity import parity_limit
from trainer.producer import Producer
from trainer.progress import Reporter, silent
from trainer.reference import Reference, make_reference
from trainer.resources import step_resources
from trainer.state import capture, newest, put_back
from trainer.stopping import Stop, StoppedRun
from trainer.weights import Weights, loaded
from trainer.world import ALONE, World
from trainer.writers import open_writers

RL = STAGES.index("rl")

When = Literal["before", "during", "after"]


class Session:
    """One run in one folder. `trainer.runs` makes or resumes it, and closes it; `trainer.loop.train` drives it.

    Every random stream is derived from (seed, purpose, step), so there is no generator state to save: a run that goes
    on from a checkpoint draws what it would have drawn.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder, reporter: Reporter, world: World = ALONE) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.folder = folder
        self.world = world
        self.division = Division(world, config.scale.rollouts)
        self.reporter = reporter if world.first else silent()
        self.clock = Clock()
        self.log = MetricsLog(folder.path / "metrics.jsonl", written=world.first)
        self.exports = Exports(folder.path, world)
        self.device = torch_device(config.device)
        self.pools = rollouts.task_pools(config)
        self.source = (
            Path(config.model.path)
            if config.model.path
            else world.only_first(lambda: preset_folder(config, folder.path / "init", self.pools))
        )
        keeps, seed = world.first or self.division.plays, self.seed("lora")
        self.weights = Weights(config.scale, self.source, self.device, world, seed=seed, keeps=keeps)
        self.model: LanguageModel = self.weights.model
        self.estimator: Estimator = estimators.get(config.algorithm.estimator)
        self.stop = Stop()
        self.alarms: list[Alarm] = []
        """Raised since this process began."""
        self.progress = Progress(0, 0)
        self.unlogged: list[Tensor] = []
        """Losses of the warm start since its last record."""
        self.saved: Progress | None = None
        self.learner = self.new_learner(config.optimiser.lr)
        with ExitStack() as opened:
            self._open(opened)
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack) -> None:
        """What has threads and processes of its own; `opened` closes it, the last one first."""
        config, tokenizer = self.config, load_tokenizer(self.source)
        if self.world.first:
            self.log.writers = open_writers(config, self.folder.path, self.reporter.warn)
        opened.callback(self.log.close)
        self.loop = BackgroundLoop()
        opened.callback(self.loop.close)
        self.loop.call(partial(torch.set_num_threads, config.threads))  # holds for the thread that calls it
        whole = self.weights.whole if self.division.plays else None
        here = partial(loaded, self.world, self.source) if engine_class(config) is TorchEngine else self.world.together
        self.engine = here(lambda: engine_or_none(config, whole, tokenizer, self.source))
        opened.callback(lambda: self.loop.run(self.engine.aclose()))
        self.parity_limit = self.world.only_first(lambda: parity_limit(whole or self.model, self.engine))
        limit = self.world.only_first(lambda: sequence_limit(self.model, cast(LocalEngine, self.engine)))
        self.agent = Agent(config, self.engine, tokenizer, limit, self.source)
        self.collector = Collector(config, self.pools, self.reporter.goes_on, self.division)
        opened.callback(lambda: self.loop.run(self.collector.aclose()))
        policy = self.agent.policy(config.rollout.temperature, entropies=True)
        self.producer = Producer(
            self.loop,
            partial(self.collector.collect, policy),
            self.engine,
            steps=config.steps,
            staleness=config.rollout.staleness,
            partial=config.rollout.partial,
            temperature=config.rollout.temperature,
        )
        self.stop.on_asked = self.producer.stop
        opened.callback(self.producer.close)

    def close(self) -> None:
        """End what is still being collected, the environments, the engine, and their processes."""
        self._opened.close()

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def at_start_of_rl(self) -> bool:
        """Nothing of RL is done yet, not even the evaluation before it."""
        done = any(r["when"] == "before" and r["temperature"] == 0 for r in self.log.of("evaluation"))
        return self.progress == Progress(RL, 0) and not done

    def new_learner(self, lr: float) -> Learner:
        """The model with fresh optimisers, and a critic where the estimator needs one."""
        critic = self.generator("critic", 0) if uses_critic(self.estimator) else None
        return make_learner(self.weights.policy, lr, self.config, self.world, critic)

    @cached_property
    def reference(self) -> Reference | None:
        """What KL terms are measured from, from the first RL step on."""
        return make_reference(self)

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
        """That of RL step `step` (from 0)."""
        for group in self.learner.optimiser.param_groups:
            group["lr"] = learning_rate(self.config.optimiser, step, self.config.steps)

    # -- rollouts -----------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Of the weights that the engine samples with: those of `model`, from a push to the next update."""
        return self.engine.version

    def collect(self, step: int) -> Experience:
        """The rollout groups of one RL step."""
        return self.collector.joined(step, self.division.play(lambda: self.producer.take(step)))

    def final_prompts(self, groups: Sequence[RolloutGroup]) -> list[tuple[int, ...]]:
        """What each episode's next prompt would have been (a critic values truncated ends); empty without a critic, and
        where nothing comes after such ends."""
        if self.learner.critic is None or self.config.algorithm.truncation_ends:
            return []
        episodes = [episode for group in groups for episode in completed(group)]
        return self.loop.call(lambda: [self.agent.next_prompt(e) for e in episodes])  # where other prompts are made

    def push_weights(self) -> None:
        """Newest weights to the engine, on every process that has one."""
        self.weights.gather(self.config.rollout.temperature, self.parity_limit)
        self.world.together(lambda: self.producer.push(self.weights.whole if self.division.plays else None))

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
        temperatures = list(dict.fromkeys((config.temperature, 0.0)))
        policies = [self.agent.policy(temperature) for temperature in temperatures]
        with self.clock("evaluate"), self.reporter.phase(f"evaluation {when} RL"):
            seed = self.seed("evaluation")
            parts = self.division.play(lambda: self.loop.run(self.collector.evaluate(policies, tasks, seed)))
        played = [self.division.in_order(tasks, of_policy) for of_policy in zip(*parts)]
        found = [evaluation_of(groups, split, t) for groups, t in zip(played, temperatures)]
        for evaluation in found:
            self.write("evaluation", {"when": when, **evaluation.summary(), **self.clock.take()})
        self.reporter.evaluated(when, found)
        if not interim and self.world.first:
            samples = map(dump_line, found[-1].episodes[: config.sample_episodes])  # for the report
            write_atomically(self.folder.path / f"samples-{when}.jsonl", b"".join(samples))
        return found

    def keep_if_best(self, found: Sequence[Evaluation]) -> None:
        """Export the weights if they do better than all that were evaluated during RL before them."""
        score, best = mean_success(found), self.exports.score
        if best is None or score > best:
            self.export(score)

    def export(self, score: float | None = None) -> None:
        """Write the weights as a model folder, with the score they were chosen by, and let `best` point to it."""
        self.exports.keep(self.progress.name, partial(self.weights.write, self.agent), score)

    def export_start(self) -> None:
        """Write the weights that RL starts from to `warmstart`, so that both stages can be evaluated anywhere."""
        self.exports.start(partial(self.weights.write, self.agent, adapter=False))

    def adopt_best(self) -> None:
        """Go back to the best weights that evaluations during RL have found; without any, export the last ones."""
        if self.exports.score is None:
            self.export()
            return
        self.weights.adopt(self.exports.best)
        self.world.together(lambda: self.producer.push(self.weights.whole if self.division.plays else None))

    # -- record -------------------------------------------------------------------------------------------------------

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """One line of metrics at the present progress."""
        self.log.write(kind, self.progress.stage, self.progress.step, values)

    def finish_rl_step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Count the step, write its metrics, and raise the alarms that they give reason to."""
        self.progress = Progress(RL, step)
        spent = step_resources(metrics, self.clock.take(), self.learner.optimiser, self.device)
        self.write("rl", {**metrics, **spent})
        self.reporter.rl_step(step, self.config.steps, self.log.records[-1])
        self.alarms += raise_alarms(self.log, self.progress, self.config.metrics, self.reporter.warn)

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
        checkpoint = capture(self.learner, self.progress, self.unlogged)
        root, keep = self.folder.path / "checkpoints", self.config.checkpoint.keep
        self.world.only_first(lambda: checkpoints.save(root, checkpoint, keep=keep))
        self.saved = self.progress

    def stop_if_asked(self) -> None:
        """Between two steps: save and end the run if Ctrl-C asked for it (`StoppedRun`), or an alarm (`AlarmError`)."""
        asked = self.world.any(self.stop.asked)
        if asked or (self.alarms and self.config.metrics.alarm == "stop"):
            self.save()
            raise StoppedRun if asked else AlarmError.of(self.alarms, self.folder.path)

    def stop_here(self) -> None:
        """The same within what one process does while the others wait for it, before which the run was saved."""
        if self.world.size == 1:
            self.stop_if_asked()
        elif self.stop.asked:
            raise StoppedRun

    def restore(self) -> None:
        """Continue from the newest checkpoint, if there is one, and forget metrics of what is done again."""
        found = newest(self.folder.path / "checkpoints", self.world)
        if found is None:
            self.log.rewind(-1, 0)
            return
        self.begin_stage(found.progress.stage)
        self.progress = self.saved = found.progress
        self.unlogged = put_back(found, self.learner)
        self.log.rewind(found.progress.stage, found.progress.step)
        self.push_weights()
