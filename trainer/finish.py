"""The end of a run: `summary.json`, `report.html`, and the figures that are shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aem_agent.records import RunFolderError, read_episodes
from aem_agent.run_folder import RunFolder
from trainer.metrics import read_records
from trainer.report import training_page
from trainer.runs import KIND

if TYPE_CHECKING:
    from trainer.session import Session


def finish(session: "Session") -> dict[str, Any]:
    """Write summary and report; returns the summary."""
    folder, log = session.folder, session.log
    evaluations = {f"{r['when']} {'greedy' if not r['temperature'] else 'sampled'}": r for r in log.of("evaluation")}
    seconds: dict[str, float] = {}
    for record in log.records:
        for key, value in record.items():
            if key.startswith("seconds_"):
                seconds[key.removeprefix("seconds_")] = seconds.get(key.removeprefix("seconds_"), 0.0) + (value or 0.0)
    summary = {
        "env_id": session.config.env.id,
        "steps": session.progress.step,
        "seed": session.config.seed,
        "aem": session.config.aem.enabled,
        "before": {k.split()[1]: v for k, v in evaluations.items() if k.startswith("before")},
        "after": {k.split()[1]: v for k, v in evaluations.items() if k.startswith("after")},
        "seconds": seconds,
        "model": "best",
    }
    if session.world.first:
        folder.write_summary(summary)
        write_report(folder.path)
    return summary


def write_report(path: Path) -> Path:
    """`report.html` of what the run in `path` has recorded so far, whether it is done, goes on, or broke off.

    Raises:
        RunFolderError: no training run.
    """
    folder = RunFolder.open(path)
    if folder.config.get("kind") != KIND:
        raise RunFolderError(f"{path} is not a training run: `aem-eval view` shows evaluations")
    config, title = folder.config.get("config"), "Training"
    if isinstance(config, dict) and isinstance(env := config.get("env"), dict):
        title += f" on {env.get('id')}"
    samples = {
        f"Episodes {when} RL (evaluated greedily)": list(read_episodes(file))
        for when in ("before", "after")
        if (file := path / f"samples-{when}.jsonl").exists()
    }
    records = read_records(path / "metrics.jsonl")
    folder.write_report(training_page(title, records, samples, config if isinstance(config, dict) else {}))
    return folder.report_path
