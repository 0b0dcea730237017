"""The curves of a training report, by subject: each function makes the body of one section from the RL records."""

from collections.abc import Iterable, Mapping, Sequence

from aem_agent.report.charts import LEFT, WIDTH, Series, line_chart
from aem_agent.report.html import Markup, join, paragraph, table
from aem_agent.stats import moving_average
from trainer.metrics import Record

WINDOW = 10
"""RL steps in the moving averages: single steps are noisy."""
BY_TYPE = "success/"
"""What names of figures by task type begin with."""

Names = Mapping[str, str]
"""Label of a curve → name of the figure."""


def values(records: Sequence[Record], key: str) -> list[float]:
    """A figure in each record; NaN, a gap, where a record lacks it."""
    return [float("nan") if r.get(key) is None else float(r[key]) for r in records]


def steps(records: Sequence[Record]) -> list[float]:
    """The step of each record."""
    return [float(r["step"]) for r in records]


def smooth(records: Sequence[Record], name: str, key: str) -> Series:
    """A moving average with its band."""
    band = moving_average(values(records, key), WINDOW)
    return Series(name, steps(records), band.mean.tolist(), band.low.tolist(), band.high.tolist())


def _as_is(records: Sequence[Record], name: str, key: str) -> Series:
    return Series(name, steps(records), values(records, key))


def curves(
    records: Sequence[Record],
    caption: str,
    names: Names,
    *,
    percent: bool = False,
    smoothed: bool = True,
    y_range: tuple[float, float] | None = None,
) -> Markup:
    """Several figures in one chart; nothing where no record has any of them."""
    there = {name: key for name, key in names.items() if any(r.get(key) is not None for r in records)}
    draw = smooth if smoothed else _as_is
    series = [draw(records, name, key) for name, key in there.items()]
    if not series:
        return Markup("")
    return line_chart(series, caption=caption, x_label="RL step", percent=percent, y_range=y_range)


def _note(words: str) -> Markup:
    return paragraph(words, note=True)


# -- what was reached -------------------------------------------------------------------------------------------------


def success(rl: Sequence[Record], evaluations: Sequence[Record], *, graded: bool) -> Markup:
    """In training and in evaluations between; mean scores too where they say more."""
    played = "success_played" if any("success_played" in r for r in rl) else "success"  # uniform groups included
    chart = _trained_and_evaluated(rl, evaluations, "Success", played, ("success", "low", "high"), percent=True)
    parts = [
        chart,
        _note(
            f"Training success: moving average over {WINDOW} steps with its 95 % band. Evaluation: Wilson intervals."
        ),
    ]
    if graded:
        keys = ("mean_score", "score_low", "score_high")
        parts.append(_trained_and_evaluated(rl, evaluations, "Mean score", "score_mean", keys))
    parts.append(curves(rl, "Mean return, as advantages see it (rollout.reward_scale)", {"return": "return_mean"}))
    return join(*parts)


def _trained_and_evaluated(
    rl: Sequence[Record],
    evaluations: Sequence[Record],
    caption: str,
    key: str,
    evaluated: tuple[str, str, str],
    *,
    percent: bool = False,
) -> Markup:
    series = [smooth(rl, "sampled in training", key)]
    for temperature in sorted({r["temperature"] for r in evaluations}):
        rows = [r for r in evaluations if r["temperature"] == temperature]
        name = "evaluated greedily" if temperature == 0 else f"evaluated at temperature {temperature:g}"
        mean, low, high = (values(rows, k) for k in evaluated)
        series.append(Series(name, steps(rows), mean, low, high))
    return line_chart(series, caption=caption, x_label="RL step", percent=percent, y_range=(0.0, 1.0))


def task_types(records: Iterable[Record]) -> list[str]:
    """The task types that have figures of their own, by name."""
    return sorted({key.removeprefix(BY_TYPE) for r in records for key in r if key.startswith(BY_TYPE)})


def by_type(rl: Sequence[Record]) -> Markup:
    """Success of each task type in training, as many in a chart as its legend has room for."""
    charts: list[Names] = []
    room = 0.0
    for kind in task_types(rl):
        width = 44 + 5.6 * len(kind)
        if width > room:
            charts.append({})
            room = WIDTH - LEFT
        charts[-1] = {**charts[-1], kind: BY_TYPE + kind}
        room -= width
    return join(*(curves(rl, "", names, percent=True, y_range=(0.0, 1.0)) for names in charts))


# -- the method -------------------------------------------------------------------------------------------------------


def entropy(rl: Sequence[Record]) -> Markup:
    """Entropies, and how far updates moved them."""
    drift = {"measured": "entropy_drift_measured", "with the same prefixes": "entropy_drift_same_prefixes"}
    moved = curves(rl, "Drift of response entropy by an update, measured", drift)
    return join(
        curves(rl, "Per token", {"token entropy": "token_entropy", "token surprisal": "token_surprisal"}),
        curves(rl, "Per response (sum over its tokens)", {"response entropy": "response_entropy"}),
        _note("Nats, of the sampling policy at its temperature, over the full vocabulary."),
        moved,
        curves(rl, "Drift predicted by A·(S − H), per unit step", {"predicted": "entropy_drift_predicted"}),
        _note("Compare signs and shapes of the two, not sizes: a prediction is per unit step of a natural gradient.")
        if moved
        else "",
    )


def modulation(rl: Sequence[Record]) -> Markup:
    """α, and how advantages are balanced."""
    return join(
        curves(rl, "α", {"α, 95 %": "alpha_q95", "α, median": "alpha_q50", "α, 5 %": "alpha_q05"}),
        curves(rl, "Range guard", {"groups left alone by the range guard": "guarded_share"}, percent=True),
        _note("α scales each response's advantage; where AEM is off it is 1."),
        curves(
            rl, "Responses", {"of positive advantage": "positive_share", "of negative": "negative_share"}, percent=True
        ),
        curves(rl, "Σ α·A", {"all responses": "advantage_sum", "positive": "positive_sum", "negative": "negative_sum"}),
        curves(
            rl,
            "Advantage mass: the same sums as the loss weighs them",
            {"positive": "positive_mass", "negative": "negative_mass"},
        ),
    )


def updates(rl: Sequence[Record]) -> Markup:
    """Loss, ratios, clipping, KL, gradients."""
    clips = {"all": "clip_fraction", "too high": "clip_high_fraction", "too low": "clip_low_fraction"}
    kl = {"old from new policy": "approx_kl", "to the reference": "kl_reference", "trainer from engine": "mismatch_kl"}
    shares = {"groups of one outcome": "uniform_groups", "responses that took part": "kept_share"}
    return join(
        curves(rl, "Loss", {"policy": "loss", "critic": "value_loss"}),
        curves(rl, "Critic's value, mean over what it values", {"value": "value_mean"}),
        curves(rl, "Probability ratio, mean over tokens", {"mean": "ratio_mean"}),
        curves(rl, "Probability ratio, largest of any token", {"largest": "ratio_max"}),
        curves(rl, "Clipped tokens", clips | {"dual clip": "dual_clip_fraction"}, percent=True),
        curves(rl, "KL, nats per token", kl),
        curves(rl, "Gradient norm before clipping", {"gradient norm": "grad_norm"}),
        curves(rl, "Learning rate", {"learning rate": "learning_rate"}, smoothed=False),
        curves(rl, "What there was to learn from", shares | {"masked by the filter": "filtered_share"}, percent=True),
    )


def actions(rl: Sequence[Record]) -> Markup:
    """What parser or environment refused, and what limits cut off."""
    refused = {"invalid actions": "invalid_rate", "truncated episodes": "truncated_share"}
    return join(
        curves(rl, "Refused by parser or environment; cut off by a limit", refused, percent=True),
        curves(rl, "Length", {"turns per episode": "turns_mean", "tokens per response": "response_length"}),
    )


# -- what it took -----------------------------------------------------------------------------------------------------


def speed(rl: Sequence[Record]) -> Markup:
    """Tokens, operations, memory."""
    return join(
        curves(rl, "Sampled tokens per second of collection", {"tokens/s": "tokens_per_second"}),
        curves(rl, "10¹² operations per second", {"update": "tflops_update", "scoring": "tflops_score"}),
        curves(rl, "Share of the device's peak (MFU)", {"update": "mfu_update", "scoring": "mfu_score"}, percent=True),
        curves(rl, "Peak memory, GB", {"process": "memory_process", "CUDA": "memory_cuda"}, smoothed=False),
    )


def phases(rl: Sequence[Record]) -> Markup:
    """Seconds per phase, over steps and in all."""
    names = sorted({k for r in rl for k in r if k.startswith("seconds_")})
    totals = {phase: sum(float(r.get(phase) or 0) for r in rl) for phase in names}
    whole = sum(totals.values()) or 1.0
    rows = [[p.removeprefix("seconds_"), f"{s:.2f}", f"{100 * s / whole:.2f} %"] for p, s in totals.items()]
    return join(
        curves(rl, "Seconds", {p.removeprefix("seconds_"): p for p in names}),
        table(["phase", "seconds in all", "share"], rows, numbers=(1, 2)),
    )
