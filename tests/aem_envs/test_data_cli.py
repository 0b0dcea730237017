"""`aem-data`: what it lists, writes and says; exported games are won in the installed real engine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aem_suite.data_cli import main
from envs_data.alfworld.official import OfficialData

WINNER = """
import json, sys
from pathlib import Path
import textworld
from textworld.envs import PddlEnv
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredTWEnv
folder, split = Path(sys.argv[1]), sys.argv[2]
sys.argv = sys.argv[:1]
paths = dict.fromkeys(("data_path", "eval_id_data_path", "eval_ood_data_path"), str(folder / "json_2.1.1" / split))
config = {"env": {"goal_desc_human_anns_prob": 0, "task_types": [1, 2, 3, 4, 5, 6]},
          "dataset": {**paths, "num_train_games": 0, "num_eval_games": 0}}
won = {}
for file in AlfredTWEnv(config, train_eval="eval_out_of_distribution").game_files:
    env = AlfredDemangler(PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True, feedback=True)))
    env.load(file)
    state = env.reset()
    early = state.won
    for action in json.loads(Path(file).read_text())["walkthrough"]:
        assert action in state.admissible_commands, (file, action, state.admissible_commands)
        state, _, _ = env.step(action)
    won[file] = bool(state.won) and not early
print("RESULT " + json.dumps(won))
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["alfworld", *arguments])
    output = capsys.readouterr()
    return int(stop.value.code or 0), output.out, output.err


def test_ls_embedded(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "ls", "--n", "7", "--size", "medium", "--split", "train", "--json")
    rows = json.loads(out)
    assert code == 0 and [row["task_id"] for row in rows] == [f"medium/train/{n:06d}" for n in range(7)]
    code, out, _ = run(capsys, "ls", "--n", "2")
    assert len(out.splitlines()) == 2 and "small/valid_seen/000000" in out


def test_ls_and_stats_official(capsys: pytest.CaptureFixture[str], official_alfworld: Path) -> None:
    where = ("--source", "official", "--data", str(official_alfworld))
    code, out, _ = run(capsys, "stats", *where, "--json")
    split = json.loads(out)["splits"]["valid_seen"]
    assert code == 0 and split["games"] == 36 and split["Pick2"] == 6 and len(split["hash"]) == 16
    code, out, _ = run(capsys, "ls", *where, "--n", "3")
    assert len(out.splitlines()) == 3 and "look at alarmclock under the desklamp." in out


def test_stats_embedded(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "stats", "--size", "official")
    assert code == 0 and "games 504" in out and "manifest_sha256: " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stats", "--size", "huge"), "unknown room size"),
        (("ls", "--split", "nope"), "unknown split"),
        (("ls", "--source", "official"), "aem-data alfworld download"),
        (("ls", "--source", "official", "--data", "{tmp}"), "aem-data alfworld download"),
        (("export", "--out", "{tmp}", "--dialect", "old"), "--grammar-from"),
        (("export", "--out", "{tmp}", "--grammar-from", "{tmp}/absent"), "complete game.tw-pddl"),
        (("export", "--out", "{tmp}", "--start", "500"), "no embedded game"),
    ],
)
def test_refusals_are_one_clear_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    code, out, err = run(capsys, *(part.replace("{tmp}", str(tmp_path)) for part in arguments))
    if "alfworld package" in err:
        pytest.skip("alfworld is not installed")
    assert code == 2 and not out and err.startswith("error: ") and message in err and len(err.splitlines()) == 1


def test_export_names_the_extra_where_alfworld_is_absent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = run(capsys, "export", "--out", str(tmp_path))
    assert code == 2 and "aem-suite[alfworld]" in err and "--grammar-from" in err


def test_download_fetches_where_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("envs_data.alfworld.download.download", lambda to, **options: asked.append(to) or ["one.zip"])
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "env"))
    code, out, _ = run(capsys, "download")
    assert code == 0 and "one.zip" in out and asked == [tmp_path / "env"]
    run(capsys, "download", "--to", str(tmp_path / "named"))
    assert asked[1] == tmp_path / "named"


def test_export_in_the_old_dialect(capsys: pytest.CaptureFixture[str], tmp_path: Path, official_alfworld: Path) -> None:
    rules = next(official_alfworld.rglob("game.tw-pddl"))
    export = ("export", "--out", str(tmp_path), "--n", "6", "--dialect", "old", "--grammar-from", str(rules))
    code, out, _ = run(capsys, *export)
    assert code == 0 and "6 games" in out
    data = OfficialData(tmp_path)
    games = data.games("valid_seen")
    assert len({game.task_type for game in games}) == 6 and not data.dropped("valid_seen")
    assert all(data.load(game.task_id).dialect == "old" for game in games)

    assert run(capsys, *export)[0] == 0, "the same games may be there already"
    code, _, err = run(capsys, *export, "--walkthrough")
    assert code == 2 and "game.tw-pddl exists" in err and "choose another --out" in err
    path, precious = games[0].path, tmp_path / "precious"
    precious.write_text("mine")
    path.unlink()
    path.symlink_to(precious)
    assert run(capsys, *export)[0] == 2 and precious.read_text() == "mine" and path.is_symlink()


@pytest.mark.slow
@pytest.mark.realengine
@pytest.mark.parametrize(("dialect", "size"), [("current", "official"), ("old", "small")])
def test_exported_games_are_won_in_the_real_engine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, official_alfworld: Path, dialect: str, size: str
) -> None:
    pytest.importorskip("alfworld")
    extra = ["--grammar-from", str(next(official_alfworld.rglob("game.tw-pddl")))] if dialect == "old" else []
    split = "valid_unseen"
    code, _, err = run(
        capsys, "export", "--out", str(tmp_path), "--n", "6", "--size", size, "--split", split,
        "--dialect", dialect, "--walkthrough", *extra,
    )  # fmt: skip
    assert code == 0, err
    played = subprocess.run(
        [sys.executable, "-c", WINNER, str(tmp_path), split], capture_output=True, text=True, timeout=300
    )
    results = [line for line in played.stdout.splitlines() if line.startswith("RESULT ")]
    assert results, played.stderr[-2000:]
    won = json.loads(results[0].removeprefix("RESULT "))
    assert len(won) == 6 and all(won.values())
