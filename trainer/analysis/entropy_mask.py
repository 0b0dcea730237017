"""`aem-train analyse entropy-mask`: where entropy goes when only responses with A·(α − 1) of one sign are trained on.

Short trainings from the same weights, seed and tasks, as the run was configured: with AEM off, with AEM, and with each
sign mask. Theory: with `fall` (A·(α − 1) > 0: certain responses rewarded, uncertain ones punished) entropy falls
faster, with `rise` it falls more slowly, or rises. Each is a run of its own in `RUN/analysis/entropy-mask/`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from aem_agent.report.charts import Series, line_chart
from aem_agent.report.html import Markup
from aem_agent.run_folder import RunFolder
from trainer.analysis.inputs import model_folder, run_config
from trainer.analysis.relations import column, trend
from trainer.analysis.results import AnalysisError, Found, analysis_folder, write_csv, write_svg
from trainer.config import TrainConfig
from trainer.evaluation import Evaluation
from trainer.loop import train
from trainer.metrics import Record, read_records
from trainer.overrides import from_json, override, to_json
from trainer.progress import Reporter
from trainer.runs import new_run, resumed_run
from trainer.session import Session
from trainer.stopping import StoppedRun

MODES = {"off": "AEM off", "none": "AEM", "fall": "only A·(α − 1) > 0", "rise": "only A·(α − 1) < 0"}
"""The trainings by the name of their folder, and how figures call them."""

COLUMNS = ("token_entropy", "response_entropy", "kept_share", "positive_share", "negative_share", "success")


class _Quiet(Reporter):
    """Steps of one training, under its name; its evaluations are of one task each, and say nothing."""

    def __init__(self, reporter: Reporter, name: str) -> None:
        super().__init__(reporter.console)
        self._name = name

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        yield

    @contextmanager
    def steps(self, name: str, total: int, start: int = 0) -> Iterator[Callable[[int, str], None]]:
        with super().steps(self._name, total, start) as advance:
            yield advance

    def evaluated(self, when: str, found: Sequence[Evaluation]) -> None:
        pass


def analyse_entropy_mask(run: Path, *, steps: int, weights: Path | None = None, reporter: Reporter) -> Found:
    """Train what is not trained yet, and write `RUN/analysis/entropy-mask.csv` with two figures.

    What was interrupted goes on where it was, by the same command.

    Raises:
        AnalysisError: no weights, no α, or trainings that were begun with other settings.
        StoppedRun: Ctrl-C; all that was done is saved.
    """
    config = run_config(run)
    if config.aem.lam == 0:
        raise AnalysisError("with aem.lam=0 every α is 1, and a sign mask would leave nothing: analyse another run")
    start = model_folder(run, config, weights or run / "warmstart")
    out = analysis_folder(run)
    folder = analysis_folder(run, "entropy-mask")
    for mode, name in MODES.items():
        inner = analysis_folder(run, "entropy-mask", mode)
        _train(masked_config(config, start, mode, steps), inner, steps, _Quiet(reporter, name))
    records = {mode: [r for r in read_records(folder / mode / "metrics.jsonl") if r["kind"] == "rl"] for mode in MODES}
    rows = [
        {"mode": mode, "updates": r["step"] - 1, **{name: r.get(name) for name in COLUMNS}}
        for mode in MODES
        for r in records[mode]
    ]
    files = (
        write_csv(out / "entropy-mask.csv", rows),
        write_svg(out / "entropy-mask.svg", _figure(records, "token_entropy", "mean token entropy")),
        write_svg(
            out / "entropy-mask-response.svg",
            _figure(records, "response_entropy", "response entropy"),
        ),
    )
    return Found(tuple(summary_lines(records)), files)


def masked_config(config: TrainConfig, start: Path, mode: str, steps: int) -> TrainConfig:
    """The run's settings for one of the trainings: from `start`, without warm start, with the least evaluation."""
    fixed = replace(
        config,
        description=f"entropy under sign masks: {MODES[mode]}",
        model=replace(config.model, path=str(start.resolve())),
        warmstart=replace(config.warmstart, steps=0, explore_steps=0),
        aem=replace(config.aem, enabled=mode != "off", shuffle=False, shuffle_by_sign=False),
        scale=replace(config.scale, processes=1),
        metrics=replace(config.metrics, tensorboard=False, wandb=None, alarm="warn"),
        evaluation=replace(config.evaluation, every=0, tasks=1, sample_episodes=0),
        checkpoint=replace(config.checkpoint, every=min(10, config.checkpoint.every), keep=1),
        steps=steps,
    )
    return override(fixed, [f"aem.sign_mask={'none' if mode == 'off' else mode}"])


def _train(config: TrainConfig, path: Path, steps: int, reporter: Reporter) -> None:
    """A new run, one that goes on, or nothing where it is done."""
    opening: AbstractContextManager[Session]
    if (path / "config.json").exists():
        folder = RunFolder.open(path)
        if to_json(from_json(folder.config["config"])) != to_json(config):
            raise AnalysisError(
                f"{path} was begun with other settings (steps, weights, the run's): remove {path.parent} to begin anew"
            )
        if folder.summary_path.exists():
            return
        opening = resumed_run(path, reporter, trust=True)  # it is configured as the run is, which is trusted here
    else:
        opening = new_run(config, path, reporter)
    try:
        with opening as session, session.stop.on_ctrl_c():
            train(session)
    except StoppedRun:
        reporter.console.print("stopped; what was done is saved: the same command goes on")
        raise


def summary_lines(records: Mapping[str, Sequence[Record]]) -> list[str]:
    """Slopes of both entropies, and whether response entropy, which the theory is of, parts as predicted: of one step
    both masks have the same tasks, so the difference between them is noted step by step."""
    whole = {mode: trend(column(records[mode], "response_entropy")) for mode in MODES}
    tokens = {mode: trend(column(records[mode], "token_entropy")) for mode in MODES}
    parts = ", ".join(f"{MODES[mode]} {whole[mode]} ({tokens[mode]})" for mode in MODES)
    first = f"response entropy (mean token entropy), nats per update ± standard error: {parts}"
    counts = {mode: sum(map(_trained, records[mode])) for mode in ("fall", "rise")}
    if not all(counts.values()):
        return [first, _why_untrained({mode: records[mode] for mode, count in counts.items() if not count})]
    rise, fall = (column(records[mode], "response_entropy") for mode in ("rise", "fall"))
    apart = trend([a - b for a, b in zip(rise, fall)])
    low, high = apart.interval
    verdict = "as predicted" if low > 0 else "against the prediction" if high < 0 else "not distinguishable from none"
    return [
        first,
        f"trained on something: > 0 alone in {counts['fall']} of {len(records['fall'])} steps, < 0 alone in "
        f"{counts['rise']} of {len(records['rise'])}",
        f"with < 0 less with > 0: {apart.slope:+.4f} nats per update (95 % interval {low:+.4f} to {high:+.4f}, "
        f"{apart.n} steps), {verdict}; one seed",
    ]


def _trained(record: Record) -> bool:
    """Whether any token had both an advantage and a weight in the loss; where the loss does not log this, whether any
    response had an advantage."""
    kind = "mass" if "positive_mass" in record else "sum"
    return bool(record.get("kept_share")) and any(record.get(f"{sign}_{kind}") for sign in ("positive", "negative"))


def _why_untrained(records: Mapping[str, Sequence[Record]]) -> str:
    """Of the masks that left nothing in any step."""
    met = [r["guarded_share"] for of in records.values() for r in of if r.get("guarded_share") is not None]
    if not met:
        why = "every step was skipped; a policy that wins sometimes, or rollout.dynamic=false, gives it batches"
    elif all(share == 1 for share in met):
        why = "every α was 1; lower aem.range_guard"
    else:
        why = "no response with an advantage had an α on that side of 1; take more --steps, or larger groups"
    names = " nor with ".join(MODES[mode] for mode in records)
    return f"nothing was trained with {names}: {why}. So these slopes say nothing of the theory"


def _figure(records: Mapping[str, Sequence[Record]], name: str, label: str) -> Markup:
    series = [Series(MODES[mode], [r["step"] - 1.0 for r in of], column(of, name)) for mode, of in records.items()]
    return line_chart(series, x_label=f"updates; {label}, nats, of the policy that samples")
