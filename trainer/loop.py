"""The training run, top to bottom: warm start, evaluation, then RL with AEM.

Every line calls something that can be read on its own: rollouts in `aem_agent.rollout`, advantages in
`trainer.advantages`, modulation in `trainer.aem`, losses in `trainer.losses`. Nothing is computed here.
"""

from typing import Any

from trainer import aem
from trainer.advantages import penalise_invalid
from trainer.batch import build
from trainer.finish import finish
from trainer.metrics import advantage_metrics, require_finite, rollout_metrics
from trainer.scoring import score, signals, uncertainty
from trainer.session import Session
from trainer.update import make_plan, update
from trainer.warmstart import warm_start


def train(session: Session) -> dict[str, Any]:
    """Run, or continue, what `session` was opened for; returns the summary that is also written to `summary.json`.

    Ctrl-C and `kill -9` alike lose what came after the last checkpoint; `aem-train resume` goes on from there.
    """
    warm_start(session)
    if session.at_start_of_rl:
        session.export_start()
        session.evaluate("before")
    with session.reporter.steps("RL", session.config.steps, session.progress.step):
        for step in range(session.progress.step, session.config.steps):
            metrics = rl_step(session, step)
            session.finish_rl_step(step + 1, metrics)
            if session.evaluation_due(step + 1):
                session.keep_if_best(session.evaluate("during"))
            session.maybe_save()
    session.adopt_best()
    session.evaluate("after")
    return finish(session)


def rl_step(session: Session, step: int) -> dict[str, Any]:
    """Collect, score, credit, modulate, update, push; returns the step's metrics."""
    config, clock, learner = session.config, session.clock, session.learner
    session.set_learning_rate(step)

    with clock("rollout"):
        groups = session.collect(step)

    with clock("batch"):
        batch, outcomes = build(
            groups,
            whole_episodes=config.rollout.whole_episodes,
            reward_scale=config.rollout.reward_scale,
            rewards=config.rollout.rewards,
        )
        batch, outcomes = batch.to(session.device), outcomes.to(session.device)

    with clock("score"):
        scores = score(
            learner.model,
            batch,
            temperature=config.rollout.temperature,
            critic=learner.critic,
            level=config.algorithm.gae_level,
            final_prompts=session.final_prompts(groups),
            max_tokens=config.optimiser.micro_tokens,
        )
        metrics = rollout_metrics(batch, outcomes, scores.entropies, scores.logprobs)
        require_finite(metrics, f"RL step {step + 1}")

    with clock("advantages"):
        credit = session.estimator(signals(batch, outcomes, scores), **config.algorithm.estimator_options)
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

    with clock("update"):
        plan = make_plan(batch, modulation.advantages, credit.targets, outcomes.terminated, config.algorithm)
        metrics |= update(learner, batch, scores, plan, config, session.generator("minibatches", step))

    with clock("push"):
        session.push_weights()

    return metrics | modulation.stats | advantage_metrics(modulation.advantages, plan.keep, plan.filtered)
