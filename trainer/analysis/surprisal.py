"""`aem-train analyse surprisal`: does α follow the relative surprisal S(a|s) − H_resp(s) of the response it scales?

At each state s many responses are drawn from the same policy, at the training temperature:

    H_resp(s) ≈ mean of S over the draws        S(a|s) = −Σ_k log π(a_k | s, a_<k)
    check:  H_resp(s) ≈ mean of Σ_k H(π(· | s, a_<k)) over the draws (chain rule)

and the response a that the episode took there, which is none of them, has relative surprisal S(a|s) − H_resp(s), and an
α within the rollout group that was played. α is above 1 for *certain* responses, so 1 − α is compared: the theory wants
both of one sign. See `docs/analyses.md` for what else is compared, and why.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from math import nan
from pathlib import Path

import torch
from torch import Tensor

from aem_agent.report.charts import Series, scatter_chart
from aem_agent.report.html import Markup
from aem_agent.seeds import episode_seed
from aem_agent.types import GenerateRequest, Response, RolloutGroup
from trainer import aem
from trainer.analysis.inputs import Speaker, run_config, speaker
from trainer.analysis.relations import agreement, column, correlation
from trainer.analysis.results import AnalysisError, Found, Value, analysis_folder, write_csv, write_svg
from trainer.analysis.states import (
    Snapshots,
    State,
    check_environment,
    choose_states,
    play_groups,
    require_snapshots,
    tasks_by_variant,
)
from trainer.batch import Batch, build
from trainer.config import TrainConfig
from trainer.progress import Reporter
from trainer.tensors import segment_sum

Row = dict[str, Value]

ROUNDING = 1e-6
"""Nats within which a difference is that of float32 sums, not one that has a sign."""

PAPER = "the paper's figures, of its models and tasks (arXiv 2605.00425): r = 0.63, signs agree in 55 of 64 states"


def analyse_surprisal(
    run: Path,
    *,
    states: int = 64,
    draws: int = 256,
    weights: Path | None = None,
    seed: int | None = None,
    environment_check: bool = False,
    reporter: Reporter,
) -> Found:
    """Write `RUN/analysis/surprisal.csv` and `surprisal.svg`; the lines say how the two go together.

    Raises:
        AnalysisError: no snapshots, no weights, α = 1 by the run's settings, or a state that cannot be returned to.
    """
    config = measured_config(run_config(run))
    require_snapshots(config)
    weights, out = weights or run / "best", analysis_folder(run)
    seed = config.seed if seed is None else seed
    with speaker(run, config, weights) as spoken:
        rows = asyncio.run(_measured(config, spoken, states, draws, seed, environment_check, reporter))
    title = f"{len(rows)} states, one of each episode, {draws} draws each, {config.env.id}, weights {weights}"
    files = (
        write_csv(out / "surprisal.csv", rows),
        write_svg(out / "surprisal.svg", _figure(rows)),
    )
    return Found((title, *summary_lines(rows), PAPER), files)


def measured_config(config: TrainConfig) -> TrainConfig:
    """The run's settings, with AEM on: what α would have been where it was off. Never shuffled or masked."""
    if config.aem.lam == 0:
        raise AnalysisError("with aem.lam=0 every α is 1, and there is nothing to compare: analyse another run")
    aem_on = replace(config.aem, enabled=True, shuffle=False, shuffle_by_sign=False, sign_mask="none")
    return replace(config, aem=aem_on)


async def _measured(
    config: TrainConfig, spoken: Speaker, n: int, draws: int, seed: int, check: bool, reporter: Reporter
) -> list[Row]:
    policy = spoken.agent.policy(config.rollout.temperature, entropies=True)
    kept: Snapshots = {}
    groups: list[RolloutGroup] = []
    variants: list[int] = []
    try:
        with reporter.phase("playing groups"):
            for variant, tasks in enumerate(tasks_by_variant(config, -(-n // config.rollout.group_size), seed)):
                at = episode_seed(seed, "surprisal: episodes", variant)
                groups += await play_groups(config, policy, tasks, variant, at, kept)
                variants += [variant] * len(tasks)
        chosen = choose_states(groups, variants, kept, n, seed)
        if check:
            check_environment(config, chosen)
        batch, _ = build(groups)
        rows: list[Row] = []
        with reporter.steps("states", len(chosen)) as advance:
            for number, state in enumerate(chosen):
                prompt, sampling = state.taken.prompt_token_ids, policy.sampling
                seeds = [episode_seed(seed, f"surprisal: draws of state {number}", draw) for draw in range(draws)]
                said = await asyncio.gather(
                    *(spoken.engine.generate(GenerateRequest(prompt, sampling, s)) for s in seeds)
                )
                rows.append(state_row(config, batch, state, said))
                advance(number + 1, f"{draws} draws each")
    finally:
        await spoken.engine.aclose()
    return rows


def state_row(config: TrainConfig, batch: Batch, state: State, said: Sequence[Response]) -> Row:
    """What is known of one state, as it is written down: entropies in nats.

    batch: of all groups that were played, with recorded log-probs and entropies. said: the draws.
    """
    assert batch.old_logprobs is not None and batch.entropies is not None  # this engine records both
    surprisal = segment_sum(-batch.old_logprobs, batch.span_index, batch.n_responses)
    chain = segment_sum(batch.entropies, batch.span_index, batch.n_responses)
    proxy = _proxy(config, batch)
    scope = _scope(config, batch, state.response)
    place = int((scope == state.response).nonzero())
    alpha = _modulated(config, proxy[scope], torch.zeros_like(scope))
    drawn, along, drawn_proxy = _of_draws(config, said)
    entropy, error = float(drawn.mean()), float(drawn.std() / len(said) ** 0.5)
    gap = drawn - along
    gap_error = float(gap.std() / len(said) ** 0.5)
    relative = float(surprisal[state.response]) - entropy
    mine = float(alpha[place])
    within = correlation(
        (drawn - entropy).tolist(), (1 - alpha_of_draws(config, proxy[scope], place, drawn_proxy)).tolist()
    )
    episode = state.episode
    return {
        "group": state.group,
        "task_id": episode.task_id,
        "repeat": episode.repeat,
        "turn": state.turn + 1,
        "turns": len(episode.turns),
        "won": int(episode.won),
        "h_resp": entropy,
        "h_resp_error": error,
        "h_chain": float(along.mean()),
        "chain_gap_in_errors": float(gap.mean()) / gap_error if gap_error > 0 else 0.0,
        "surprisal": float(surprisal[state.response]),
        "relative_surprisal": relative,
        "proxy": float(proxy[state.response]),
        "alpha": mine,
        "one_minus_alpha": 1 - mine,
        "h_resp_minus_scope_mean": entropy - float(chain[scope].mean()),
        "within_r": within.r,
    }


def _proxy(config: TrainConfig, batch: Batch) -> Tensor:
    """What AEM takes for each response's uncertainty: [R], nats."""
    assert batch.old_logprobs is not None and batch.entropies is not None
    tokens = batch.old_logprobs, batch.entropies, batch.span_index
    return aem.uncertainty_of(config.aem.proxy, *tokens, batch.n_responses)


def _scope(config: TrainConfig, batch: Batch, response: int) -> Tensor:
    """int64 [m], the responses among which α of `response` is made, itself one of them."""
    if config.aem.scope == "batch":
        return torch.arange(batch.n_responses)
    index = batch.group_index if config.aem.scope == "group" else batch.episode_index
    return (index == index[response]).nonzero().squeeze(1)


def _of_draws(config: TrainConfig, said: Sequence[Response]) -> tuple[Tensor, Tensor, Tensor]:
    """Surprisal, sum of token entropies, and AEM's proxy of each draw: [D] each, float64, nats."""
    spans = torch.arange(len(said)).repeat_interleave(torch.tensor([len(r.token_ids) for r in said]))
    logprobs = torch.tensor([x for r in said for x in r.logprobs or ()], dtype=torch.float64)
    entropies = torch.tensor([x for r in said for x in r.entropies or ()], dtype=torch.float64)
    n = len(said)
    proxy = aem.uncertainty_of(config.aem.proxy, logprobs, entropies, spans, n)
    return segment_sum(-logprobs, spans, n), segment_sum(entropies, spans, n), proxy


def alpha_of_draws(config: TrainConfig, scope: Tensor, place: int, draws: Tensor) -> Tensor:
    """α that each draw would have had in the place of the taken response, everything else in the scope as it was.

    scope [m] and draws [D]: values of the proxy, nats; place: of the taken response in the scope → [D].
    """
    copies = scope.to(draws.dtype).repeat(len(draws), 1)
    copies[:, place] = draws
    index = torch.arange(len(draws)).repeat_interleave(len(scope))
    return _modulated(config, copies.flatten(), index).view_as(copies)[:, place]


def _modulated(config: TrainConfig, uncertainty: Tensor, scope: Tensor) -> Tensor:
    options = {**config.aem.modulate_options, "scope": "group"}  # the scopes are told apart already
    return aem.modulate(torch.zeros_like(uncertainty), uncertainty, scope, **options).alpha


def summary_lines(rows: Sequence[Row]) -> list[str]:
    """How the columns of `surprisal.csv` go together."""
    relative, minus = column(rows, "relative_surprisal"), column(rows, "one_minus_alpha")
    above, within = column(rows, "h_resp_minus_scope_mean"), column(rows, "within_r")
    known = [value for value in within if value == value]
    gap = torch.tensor(column(rows, "h_resp")) - torch.tensor(column(rows, "h_chain"))
    return [
        f"1 − α against S − H of the responses taken: {correlation(relative, minus)}; "
        f"signs agree in {_signs(relative, minus, rows)}",
        f"1 − α against H − the mean of its scope: {correlation(above, minus)}; "
        f"signs agree in {_signs(above, minus, rows)}",
        f"1 − α against S − H over the draws of one state: positive in {sum(r > 0 for r in known)} of {len(known)} "
        f"states, mean r = {sum(known) / max(1, len(known)):+.2f}",
        f"H by Monte Carlo less H by the chain rule: {float(gap.mean()):+.4f} ± "
        f"{1.96 * float(gap.std()) / len(rows) ** 0.5:.4f} nats, mean over states",
    ]


def _signs(values: Sequence[float], minus: Sequence[float], rows: Sequence[Row]) -> str:
    """In how many states `values` and 1 − α agree, and how many have no sign: α is 1, or the value is within two
    standard errors of H of zero, or within rounding."""
    errors = column(rows, "h_resp_error")
    clear = [abs(v) >= max(ROUNDING, 2 * error) for v, error in zip(values, errors)]
    guarded = sum(m == 0 for m in minus)
    unclear = sum(m != 0 and not c for m, c in zip(minus, clear))
    text = f"{agreement([v if c else nan for v, c in zip(values, clear)], minus)} states"
    text += f"; {unclear} left out, within two standard errors of 0" if unclear else ""
    return text + (f"; {guarded} left out, their α is 1" if guarded else "")


def _figure(rows: Sequence[Row]) -> Markup:
    return scatter_chart(
        [Series("responses taken, one per state", column(rows, "relative_surprisal"), column(rows, "one_minus_alpha"))],
        x_label="relative surprisal S − H, nats",
        y_label="1 − α",
    )
