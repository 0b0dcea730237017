"""The training run, top to bottom: warm start, evaluation, then RL with AEM.

Every line calls something that can be read on its own: rollouts in `aem_agent.rollout`, advantages in
`trainer.advantages`, modulation in `trainer.aem`, losses in `trainer.losses`. Nothing is computed here.
"""

from collections.abc import Sequence
from typing import Any

from aem_agent.types import RolloutGroup
from trainer import aem
from trainer.advantages import penalise_invalid
from trainer.batch import Batch, build
from trainer.drift import entropy_drift
from trainer.finish import finish
from trainer.health import ends_at_nan
from trainer.metrics import advantage_metrics, require_finite, rollout_metrics
from trainer.recordings import record_episodes
from trainer.sampled import check_sampled
from trainer.scoring import Scores, score, signals, uncertainty
from trainer.session import Session
from trainer.shaping import shape
from trainer.sleeping import asleep
from trainer.staleness import staleness_metrics
from trainer.update import make_plan, update
from trainer.warmstart import warm_start


def train(session: Session) -> dict[str, Any]:
    """Run, or continue, what `session` was opened for; returns the summary that is also written to `summary.json`.

    `kill -9` loses what came after the last checkpoint; `aem-train resume` goes on from there. The first Ctrl-C of
    `aem-train` loses nothing (`trainer.stopping`): what is in hand is finished and saved.

    Raises:
        StoppedRun: it was asked for, and the run is saved.
    """
    with ends_at_nan(session):
        warm_start(session)
    session.push_weights()
    if session.at_start_of_rl:
        session.export_start()
        session.evaluate("before")
    session.stop_if_asked()
    with session.reporter.steps("RL", session.config.steps, session.progress.step):
        for step in range(session.progress.step, session.config.steps):
            with ends_at_nan(session):
                metrics = rl_step(session, step)
            session.finish_rl_step(step + 1, metrics)
            if session.evaluation_due(step + 1):
                session.keep_if_best(session.evaluate("during"))
            session.maybe_save()
            session.stop_if_asked()
    session.adopt_best()
    session.evaluate("after")
    return finish(session)


def rl_step(session: Session, step: int) -> dict[str, Any]:
    """Collect, score, credit, modulate, update, push; returns the step's metrics."""
    config, clock, learner = session.config, session.clock, session.learner
    session.set_learning_rate(step)

    with clock("rollout"):
        experience = session.collect(step)
    if not experience.groups:  # all were uniform (rollout.dynamic): there is nothing to learn from
        return {"skipped": True, **experience.metrics}

    with clock("batch"):
        batch, outcomes = build(experience.groups, **config.rollout.batch_options)
        check_sampled(batch, learner.model.vocab_size)
        batch, outcomes = batch.to(session.device), outcomes.to(session.device)

    with clock("score"):
        scores = scores_of(session, batch, experience.groups)
        metrics = rollout_metrics(batch, outcomes, scores.entropies, scores.logprobs)
        metrics |= experience.metrics
        metrics |= scores.metrics
        metrics |= staleness_metrics(batch, session.version, config.rollout.staleness)
        require_finite(metrics, "scoring")

    with clock("advantages"):
        seen, shaping = shape(signals(batch, outcomes, scores), **config.shaping_options)
        metrics |= shaping
        credit = session.estimator(seen, **config.algorithm.estimator_options)
        span_index = batch.span_index if credit.per == "token" else None
        advantages = penalise_invalid(
            credit.values, outcomes.invalid, config.algorithm.invalid_penalty, span_index=span_index
        )

    with clock("modulate"):
        modulation = aem.modulate(  # the last step on advantages
            advantages,
            uncertainty(batch, scores, config.aem.proxy),
            batch.group_index,
            trajectory=batch.episode_index,
            span_index=span_index,
            generator=session.generator("shuffle", step),
            **config.aem.modulate_options,
        )
    record_episodes(session, step, experience.groups, batch, scores, advantages, modulation)

    with clock("update"), asleep(session):
        plan = make_plan(batch, modulation.advantages, credit.targets, outcomes.terminated, config.algorithm)
        metrics |= update(learner, batch, scores, plan, config, session.generator("minibatches", step))

    with clock("drift"):
        metrics |= entropy_drift(learner.policy, batch, scores, plan, config, session.generator("drift", step))

    with clock("push"):
        session.push_weights()

    return metrics | modulation.stats | advantage_metrics(modulation.advantages, plan.keep, plan.filtered)


def scores_of(session: Session, batch: Batch, groups: Sequence[RolloutGroup]) -> Scores:
    """What policy, critic and reference say of the batch of `groups`, as the run's settings have it."""
    config, learner = session.config, session.learner
    return score(
        learner.policy,
        batch,
        temperature=config.rollout.temperature,
        critic=learner.critic,
        level=config.algorithm.gae_level,
        final_prompts=session.final_prompts(groups),
        max_tokens=config.optimiser.micro_tokens,
        version=session.version,
        parity_limit=session.parity_limit,
        world=session.world,
        reference=session.reference,
        **config.algorithm.mismatch_options,
    )
