"""What hostile texts do to a terminal: nothing, be they tasks, actions, errors, names, folders or settings.

Reports in a browser: test_hostile_pages.py; the viewer: tests/aem_agent/test_viewer_browser.py.
"""

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from aem_agent.cli import main as aem_eval
from aem_agent.comparison import compare
from aem_agent.summary import summarize
from aem_agent.terminal import TEXT_LENGTH, print_comparison, print_episode, print_summary
from aem_agent.types import Episode, Response, Turn
from aem_envs.sanitize import cut, for_html, has_controls, plain
from aem_suite.data_cli import main as aem_data
from aem_suite.envs_cli import main as aem_envs

ESCAPES = (
    "\x1b[2J\x1b[31m\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\\x1bP+q\x1b\\"  # CSI, OSC with both ends, DCS
    "\x9b2J\x9d0;t\x9c\x90q\x9c\x85"  # the same as single characters of C1
    "\x00\x07\x08\x0c\r\x7f\x0e"
)
DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
HIDDEN = "\u200b\u200c\u200d\u2060\ufeff\u180e\u2028\u2029\ufff9\U000e0041\ud800"
MARKUP = "[red]painted[/red][link=http://evil.example]x[/link]"
TAGS = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
HOSTILE = f"a{ESCAPES}b{DIRECTIONS}c{HIDDEN}d{MARKUP}e{TAGS}f"


def hostile_episode(**more: Any) -> Episode:
    turn = Turn(
        observation=HOSTILE, response=Response(HOSTILE + "r"), action=HOSTILE, format_valid=False, format_error=HOSTILE,
        info={"action_error": HOSTILE, "details": {"verdict": HOSTILE}, "seconds": {HOSTILE: 1.0}},
    )  # fmt: skip
    settings: dict[str, Any] = {
        "env_id": HOSTILE, "task_id": HOSTILE, "task_type": HOSTILE, "split": HOSTILE, "repeat": 0, "seed": 0,
        "turns": (turn,), "final_observation": HOSTILE, "truncated": True, "truncation_reason": HOSTILE,
    }  # fmt: skip
    return Episode(**{**settings, **more})


def harmless(shown: str, marked: bool = True) -> None:
    """Nothing but letters, blanks and line ends came out, and rich painted nothing."""
    assert not has_controls(shown), sorted({c for c in shown if has_controls(c)})
    assert "painted" in shown, "shown, not dropped"
    assert not marked or "[red]" in shown, "not taken for markup"


def console() -> Console:
    return Console(file=io.StringIO(), width=120)


def output(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


@pytest.mark.parametrize("character", [*ESCAPES, *DIRECTIONS, *HIDDEN])
def test_every_such_character_is_made_visible(character: str) -> None:
    if character in "[2J31m]0;title8;;http://evil.example\\P+qt":
        return
    for shown in (plain(character), for_html(character)):
        assert shown != character and not has_controls(shown) and shown.isprintable()


def test_what_people_write_stays_as_it_is() -> None:
    text = "naïve Ελληνικά עברית العربية 中文 🎧 – …\n\ttab"
    assert plain(text) == text and cut(text, 1000) == text
    assert cut("x" * 12, 10) == "x" * 10 + "… 2 more characters"


def test_tables_and_episodes_of_an_evaluation() -> None:
    lost, errored = hostile_episode(), hostile_episode(repeat=1, truncated=False, error=f"{HOSTILE}: {HOSTILE}")
    summary = replace(summarize([lost, errored], env_id=HOSTILE, split=HOSTILE), data_hash=HOSTILE, engine=HOSTILE)
    shown = console()
    print_summary(shown, summary, HOSTILE)
    print_comparison(shown, compare([lost], [lost], seed=0), HOSTILE, HOSTILE)
    for episode in (lost, errored):
        print_episode(shown, episode, 1, 2)
    harmless(output(shown))


def test_a_line_without_end_takes_no_time_and_no_room() -> None:
    """rich wraps a word of a million characters in hours; a page of it opens never."""
    shown, word = console(), "x" * 1_000_000
    turn = Turn(observation=word, response=Response(word + "r"), action=word)
    endless = hostile_episode(task_type=word, turns=(turn,), final_observation=word, error=word, truncated=False)
    print_episode(shown, endless, 1, 1)
    print_summary(shown, summarize([endless], env_id=word, split=word), word)
    assert len(output(shown)) < 6 * TEXT_LENGTH


def ended(main: Any, *words: str, stdin: str | None = None) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a run folder that a file system takes; the working directory is an empty one."""
    monkeypatch.chdir(tmp_path)
    return "\x1b[2J\x9b31m\u202e[red]painted[/red]"


@pytest.mark.slow
def test_commands_of_an_evaluation(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("script.json").write_text(json.dumps([HOSTILE.replace("\ud800", ""), "look"]))
    run = ("run", "aem/Toy-v0", "-m", "scripted:script.json", "-n", "2", "--max-steps", "3")
    assert ended(aem_eval, *run, "--out", odd) == 0
    assert ended(aem_eval, *run, "--resume", odd, "--dry-run") in (0, 2)
    assert ended(aem_eval, "view", odd, "--no-browser") == 0
    assert ended(aem_eval, "view", odd, "--episode", "1") == 0
    assert ended(aem_eval, "score", odd) == 0
    assert ended(aem_eval, "compare", odd, odd) == 0
    assert ended(aem_eval, "export", odd, "--all", "--out", f"{odd}.jsonl") == 0
    assert ended(aem_eval, "export", odd, "--all", "--out", f"{odd}.jsonl") == 2, "exists"
    assert ended(aem_eval, "score", f"{odd}/nowhere") == 2
    assert ended(aem_eval, "run", "aem/Toy-v0", "-m", odd) == 2
    assert ended(aem_eval, "run", f"aem/{odd}-v0", "-m", "random") == 2
    captured = capsys.readouterr()
    harmless(captured.out)
    harmless(captured.err)


def test_commands_of_environments_and_data(
    odd: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("hostile_toy.py").write_text(
        "import aem_envs\nfrom aem_envs.toy import ToyEnv\n"
        "class Odd(ToyEnv): ...\n"
        f"Odd.__doc__ = {HOSTILE!a}\naem_envs.register('me/Odd-v0', 'hostile_toy:Odd')\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())
    assert ended(aem_envs, "ls", "hostile_toy") == 0
    assert ended(aem_envs, "info", "hostile_toy:me/Odd-v0") == 0
    assert ended(aem_envs, "info", f"hostile_toy:{odd}") == 2
    assert ended(aem_data, "webshop", "generate", "--products", "2", "--out", odd) == 0
    assert ended(aem_data, "webshop", "stats", "--source", "official", "--data", f"{odd}/nowhere") == 2
    assert ended(aem_data, "alfworld", "stats", "--source", "official", "--data", odd) == 2
    assert ended(aem_data, "swebench", "rows", "--n", "1", "--out", f"{odd}.jsonl") == 0
    captured = capsys.readouterr()
    harmless(captured.out)
    harmless(captured.err)
    sys.modules.pop("hostile_toy", None)


@pytest.mark.slow
@pytest.mark.e2e
def test_commands_of_training(odd: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from trainer import cli

    def aem_train(words: Sequence[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["aem-train", *words])
        cli.main()

    monkeypatch.setattr("trainer.runs.recipe_names", lambda: ["toy"])
    from trainer.runs import load_recipe

    toy = replace(load_recipe("toy"), description=HOSTILE)
    monkeypatch.setattr("trainer.runs.load_recipe", lambda name: toy)
    assert ended(aem_train, "list") == 0
    small = ("--set", "steps=1", "--set", "warmstart.steps=1", "--set", "warmstart.games=2", "--set", "rollout.tasks=1",
             "--set", "evaluation.tasks=2", "--set", "model.preset_options.layers=1")  # fmt: skip
    assert ended(aem_train, "run", "toy", "--dry-run", *small) == 0
    assert ended(aem_train, "run", "toy", *small, "--out", odd) == 0
    assert ended(aem_train, "report", odd) == 0
    assert ended(aem_train, "report", f"{odd}/nowhere") == 2
    assert ended(aem_train, "run", "toy", "--set", f"metrics.wandb={odd}", "--set", f"model.path={odd}") == 2
    assert ended(aem_train, "run", "toy", "--set", f"{odd}=1") == 2
    captured = capsys.readouterr()
    harmless(captured.out)
    harmless(captured.err)


def test_what_a_run_tells(odd: str) -> None:
    pytest.importorskip("torch")
    from trainer.evaluation import Evaluation
    from trainer.progress import Reporter

    shown = console()
    reporter = Reporter(shown)
    reporter.warn(HOSTILE)
    reporter.evaluated("before", [Evaluation(HOSTILE, 0.0, (hostile_episode(),), 0)])
    record = {"split": HOSTILE, "success": 0.5, "low": 0.1, "high": 0.9, "n": 2, "temperature": 0.0}
    summary = {"before": {"greedy": record}, "after": {"greedy": record}, "seconds": {HOSTILE: 1.0}}
    reporter.finished(summary, Path(odd))
    harmless(output(shown))
