"""One run of a study, in a process of its own: `python studies/job.py STUDY ARM SEED --work DIR`.

The arm `start` makes the warm start that all arms of a seed begin from. A job that was broken off goes on from its last
checkpoint; the first Ctrl-C (SIGINT) saves and ends it.
"""

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tables
from designs import STUDIES, Study
from rich.console import Console
from settings import fingerprint, start_config, start_fingerprint, weights_hash

from trainer import rollouts
from trainer.config import TrainConfig
from trainer.evaluation import evaluation_of
from trainer.loop import train
from trainer.metrics import Record
from trainer.progress import Reporter
from trainer.runs import new_run, resumed_run
from trainer.session import Session
from trainer.stopping import StoppedRun

START = "start"
STOPPED = 75
"""Exit status of a job that was asked to stop, and has saved."""
OF_STEP = (
    *("token_entropy", "response_entropy", "response_length", "turns_mean", "invalid_rate"),
    *("uniform_groups", "guarded_share", "alpha_q05", "alpha_q50", "alpha_q95", "positive_share", "negative_share"),
    *("positive_mass", "negative_mass", "advantage_sum", "approx_kl", "clip_fraction", "grad_norm", "kept_share"),
    *("entropy_drift_predicted", "entropy_drift_measured", "episodes_played", "turns_played", "updates", "value_mean"),
)
"""Metrics of a step that the results keep, beside `success`. With dynamic sampling those of responses and groups are of
what was kept; `success` and `…_played` never are."""


class Budget(Reporter):
    """Says nothing, and ends a run once it has played so many episodes: dynamic sampling plays more in each step."""

    def __init__(self, episodes: int) -> None:
        super().__init__(Console(quiet=True))
        self.left = float(episodes)
        self.session: Session | None = None

    def rl_step(self, step: int, total: int, record: Mapping[str, Any]) -> None:
        self.left -= record["episodes_played"]
        if self.left <= 0 and self.session is not None:
            self.session.stop.asked = True


def main() -> None:
    """Run one job; the exit status is 0, or `STOPPED`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    parser.add_argument("--work", type=Path, required=True, help="run folders go here")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="process without which this one ends")
    args = parser.parse_args()
    study = STUDIES[args.study]
    threading.Thread(target=end_with, args=(args.parent,), daemon=True).start()
    try:
        if args.arm == START:
            make_start(study, args.seed, args.work, args.device)
        else:
            run_arm(study, args.arm, args.seed, args.work, args.device)
    except StoppedRun:
        sys.exit(STOPPED)


def end_with(parent: int) -> None:
    """Save and end when the process that began this one is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)


def start_folder(study: Study, seed: int, work: Path) -> Path:
    """Where the warm start of a seed is, or will be; studies with the same start share it."""
    return work / "starts" / f"{study.start}-{start_fingerprint(study, seed)}-{seed}"


def make_start(study: Study, seed: int, work: Path, device: str) -> None:
    """The warm start of a seed, unless it is there."""
    folder = start_folder(study, seed, work)
    if (folder / "done").exists():
        return
    with opened(replace(start_config(study, seed), device=device), folder, Reporter(Console(quiet=True))) as session:
        train(session)
    (folder / "done").touch()


def run_arm(study: Study, arm: str, seed: int, work: Path, device: str) -> None:
    """Train one arm from its seed's warm start, play the held-out tasks, and add both to the results."""
    config = study.config(arm, seed)
    folder = work / study.name / f"{arm}-{fingerprint(study, arm, seed)}-{seed}"
    start = (start_folder(study, seed, work) / "warmstart").resolve()
    warm = replace(config.warmstart, steps=0, explore_steps=0)
    begun = replace(config, model=replace(config.model, path=str(start)), warmstart=warm, device=device)
    budget = Budget(config.steps * config.rollout.tasks * config.rollout.group_size)
    with opened(begun, folder, budget) as session:
        train_within(session, budget, ends=config.rollout.dynamic)
        held_out = {t: outcomes(session, study, t) for t in study.temperatures}
        steps = session.log.of("rl")
    same = {"arm": arm, "seed": seed}
    about = {"settings": fingerprint(study, arm, seed), "start": weights_hash(start), "device": device}
    run: dict[str, Any] = {**same, **about, "steps": len(steps)}
    for key in ("episodes_played", "turns_played", "updates"):
        run[key] = round(sum(r.get(key) or 0 for r in steps))
    run["success"], run["success_last_quarter"] = played_success(steps), played_success(steps[-(len(steps) // 4) :])
    for temperature, won in held_out.items():
        run[f"heldout_{temperature:g}"] = won.count("1") / (len(won) - won.count("-"))
    run |= {f"won_{temperature:g}": won for temperature, won in held_out.items()}
    rows = [
        {**same, "step": r["step"], "success": r["success_played"], **{key: r.get(key) for key in OF_STEP}}
        for r in steps
    ]
    tables.add(study.name, {"steps": rows, "runs": [run]})  # the run's row comes last: it says that all is there
    shutil.rmtree(folder)


def train_within(session: Session, budget: Budget, *, ends: bool) -> None:
    """Train to the last step, or, if `ends`, until the budget of episodes is spent."""
    if ends:
        budget.left -= sum(r["episodes_played"] for r in session.log.of("rl"))
        budget.session = session
    try:
        if budget.left > 0:
            train(session)
    except StoppedRun:
        if budget.left > 0:
            raise
    session.stop.asked = False


def played_success(steps: Sequence[Record]) -> float:
    """Share of all episodes played that were won, those of groups included that dynamic sampling turned down."""
    played = sum(r["episodes_played"] for r in steps)
    return float(sum(r["success_played"] * r["episodes_played"] for r in steps) / played)


def outcomes(session: Session, study: Study, temperature: float) -> str:
    """One letter for each held-out task: 1 won, 0 lost, - not completed."""
    tasks = rollouts.held_out(session.config, study.split, study.tasks)
    policy = session.agent.policy(temperature)
    (groups,) = session.loop.run(session.collector.evaluate([policy], tasks, session.seed("study")))
    found = {e.task_id: str(int(e.won)) for e in evaluation_of(groups, study.split, temperature).episodes}
    return "".join(found.get(task.task_id, "-") for task in tasks)


@contextmanager
def opened(config: TrainConfig, folder: Path, reporter: Reporter) -> Iterator[Session]:
    """A new run, or the one that was broken off; Ctrl-C saves and ends it."""
    there = (folder / "config.json").exists()
    if not there:
        shutil.rmtree(folder, ignore_errors=True)
    with (
        resumed_run(folder, reporter, trust=True) if there else new_run(config, folder, reporter) as session,
        session.stop.on_ctrl_c(say=False),
    ):
        yield session


if __name__ == "__main__":
    main()
