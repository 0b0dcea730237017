"""Raw results that nobody ran: of any study, with effects that are known."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tables
from designs import Study
from job import OF_STEP
from settings import fingerprint

RUN = ("arm", "seed", "settings", "start", "steps", "episodes_played", "success", "success_last_quarter")


def write_results(
    study: Study,
    results: Path,
    seeds: Sequence[int],
    *,
    effects: Mapping[str, float] | None = None,
    steps: int = 12,
    tasks: int = 40,
) -> None:
    """Runs of all arms; `effects`: by how much success of an arm is above the others'."""
    for arm in study.arms:
        for seed in seeds:
            run, rows = made(study, arm, seed, (effects or {}).get(arm, 0.0), steps, tasks)
            tables.add(study.name, {"runs": [run], "steps": rows}, results)


def made(
    study: Study, arm: str, seed: int, effect: float, steps: int, tasks: int
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """One run's row, and those of its steps; what is common to a seed is drawn first, so that arms are paired."""
    shared, own = np.random.default_rng(seed), np.random.default_rng([seed, *arm.encode()])
    level = 0.15 + 0.05 * shared.standard_normal()
    success = level + 0.4 * np.arange(steps) / steps + effect + 0.05 * own.standard_normal(steps)
    success = np.clip(success, 0, 1)
    off = "off" in arm.split("-")
    rows: list[dict[str, object]] = []
    for step in range(steps):
        decay = float(np.exp(-step / (60 if off else 90)))
        values: dict[str, object] = {
            **dict.fromkeys(OF_STEP, 0.5),
            "success": float(success[step]),
            "token_entropy": 0.5 * decay + 0.01 * float(own.standard_normal()),
            "response_entropy": 1.8 * decay,
            "positive_share": 0.2 + 0.2 * step / steps,
            "negative_share": 0.6 - 0.2 * step / steps,
            **dict(zip(("alpha_q05", "alpha_q50", "alpha_q95"), (None,) * 3 if off else (0.6, 1.05, 1.25))),
        }
        rows.append({"arm": arm, "seed": seed, "step": step + 1, **values})
    means = (float(success.mean()), float(success[-(steps // 4) :].mean()))
    run: dict[str, object] = dict(
        zip(RUN, (arm, seed, fingerprint(study, arm, seed), f"start-{seed}", steps, 64 * steps, *means), strict=True)
    )
    easy = shared.random(tasks)
    for t in study.temperatures:
        won = "".join("1" if e < success[-1] + 0.1 * own.standard_normal() else "0" for e in easy)
        run[f"heldout_{t:g}"], run[f"won_{t:g}"] = won.count("1") / tasks, won
    return run, rows
