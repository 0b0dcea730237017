"""The end of a run: `summary.json`, `report.html`, and the figures that are shown."""

from typing import TYPE_CHECKING, Any

from aem_agent.records import read_episodes
from trainer.overrides import to_json
from trainer.report import training_page

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
    folder.write_summary(summary)
    write_report(session)
    return summary


def write_report(session: "Session") -> None:
    """`report.html` of what has been recorded so far."""
    folder = session.folder
    samples = {
        f"Episodes {when} RL (evaluated greedily)": list(read_episodes(path))
        for when in ("before", "after")
        if (path := folder.path / f"samples-{when}.jsonl").exists()
    }
    title = f"Training on {session.config.env.id}"
    folder.write_report(training_page(title, session.log.records, samples, to_json(session.config)))
