"""Tables, figures and the page: what the raw results give, and nothing else."""

import fcntl
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import report
import tables
from designs import PRIMARY, SECONDARY, STUDIES, Study
from figures import colours, panels
from pages import PageError, replaced
from synthetic import write_results

PLACES = "# Page\n\nText.\n\n<!-- study:{0}:begin -->\nold\n<!-- study:{0}:end -->\n\nMore text.\n"
SMALL = replace(PRIMARY, seeds=(0, 1, 2))
RUNNING = report.DOCS.parent / "studies" / "work" / ".running"
"""Locked by `run.py` as long as it runs."""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of a small study, and a page with a place for it."""
    monkeypatch.setattr(report, "STUDIES", {"primary": SMALL})
    write_results(SMALL, tmp_path / "results", (0, 1, 2), effects={"aem": 0.2}, steps=6, tasks=10)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "study.md").write_text(PLACES.format("primary"))
    return tmp_path


def main(room: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    places = ["--results", str(room / "results"), "--docs", str(room / "docs")]
    monkeypatch.setattr(sys, "argv", ["report.py", *places, *arguments])
    return report.main()


def files(room: Path) -> dict[Path, bytes]:
    return {path.relative_to(room): path.read_bytes() for path in room.rglob("*") if path.is_file()}


def test_the_page_of_this_repository_is_what_its_results_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if taken(RUNNING):
        pytest.skip("a study is running: its results grow")
    monkeypatch.setattr(sys, "argv", ["report.py", "--check"])
    assert report.main() == 0, capsys.readouterr().err


def taken(path: Path) -> bool:
    """Somebody has the file locked."""
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_running_study_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / ".running"
    assert not taken(path)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert taken(path)
    assert not taken(path)


def test_report_writes_what_check_accepts(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(room, monkeypatch, "--check") == 1
    assert "study.md is not what the results give" in capsys.readouterr().err
    before = files(room)
    assert main(room, monkeypatch) == 0
    assert "aem − off" in capsys.readouterr().out
    written = files(room)
    assert main(room, monkeypatch, "--check") == 0 and main(room, monkeypatch, "primary") == 0
    assert files(room) == written  # equal bytes, and a check writes nothing
    assert all(written[path] == before[path] for path in before if path.suffix == ".csv")
    page = written[Path("docs/study.md")].decode()
    assert page.startswith("# Page\n\nText.\n\n<!-- study:primary:begin -->\n24 of 24 runs.") and "\nold\n" not in page
    assert page.endswith("<!-- study:primary:end -->\n\nMore text.\n")
    assert "| `aem` − `off` | 3 | +" in page
    shown = {line.partition("](")[2].rstrip(")") for line in page.splitlines() if line.startswith("![")}
    assert shown == {str(p.relative_to("docs")) for p in written if p.suffix == ".svg"} and len(shown) == 7


@pytest.mark.parametrize("what", ["page", "figure", "json", "left over", "results"])
def test_check_finds_what_drifted(
    what: str, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(room, monkeypatch) == 0
    page, assets = room / "docs" / "study.md", room / "docs" / "assets" / "study"
    if what == "page":
        page.write_text(page.read_text().replace("| 3 | +", "| 3 | +1", 1))
    elif what == "figure":
        (assets / "primary-success.svg").write_text("<svg/>")
    elif what == "json":
        (room / "results" / "primary" / "contrasts.json").unlink()
    elif what == "left over":
        (assets / "gone-success.svg").write_text("<svg/>")
    else:
        write_results(SMALL, room / "results", (2,), effects={"aem": 0.1}, steps=6, tasks=10)
    capsys.readouterr()
    assert main(room, monkeypatch, "--check") == 1
    assert "run `python studies/report.py`" in capsys.readouterr().err
    assert main(room, monkeypatch) == 0 and main(room, monkeypatch, "--check") == 0


def test_results_need_a_place_on_the_page(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (room / "docs" / "study.md").write_text("# Page\n")
    before = files(room)
    assert main(room, monkeypatch) == 1
    assert "<!-- study:primary:begin -->" in capsys.readouterr().err and files(room) == before
    for page in ("", PLACES.format("a") * 2, "<!-- study:a:end --> <!-- study:a:begin -->"):
        with pytest.raises(PageError):
            replaced(page, "a", "new")


def test_a_study_without_results_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, monkeypatch) == 0 and main(tmp_path, monkeypatch, "--check") == 0
    assert files(tmp_path) == {}
    with pytest.raises(SystemExit):
        main(tmp_path, monkeypatch, "nothing")
    assert "unknown study nothing" in capsys.readouterr().err


def test_a_study_that_has_just_begun_is_reported(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = room / "begun"
    write_results(replace(SMALL, arms={"aem": SMALL.arms["aem"]}), begun / "results", (1,), steps=3, tasks=4)
    (begun / "docs").mkdir()
    (begun / "docs" / "study.md").write_text(PLACES.format("primary"))
    assert main(begun, monkeypatch) == 0 and main(begun, monkeypatch, "--check") == 0
    page = (begun / "docs" / "study.md").read_text()
    assert page.count("1 of 24 runs") == 1 and "| `aem` − `off` | 0 | – | – | – | – |" in page


def test_figures_stand_alone(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XML of its own size and style, for light and dark, with nothing from elsewhere."""
    assert main(room, monkeypatch) == 0
    figures = sorted((room / "docs" / "assets" / "study").glob("*.svg"))
    for path in figures:
        text = path.read_text()
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.attrib["viewBox"].startswith("0 0 380 ")
        assert float(root.attrib["width"]) <= 600 and "prefers-color-scheme: dark" in text
        assert "var(" not in text and "href" not in text and "url(" not in text and "nan" not in text
        assert root.find("{*}title") is not None and root.find("{*}rect[@class='ground']") is not None
        drawn = {"ground", "grid", "curve", "band", "bar", "swatch", "dashed", "whisker", "zero", "strong", "heading"}
        known = drawn | {f"c{i}" for i in range(8)}
        assert {name for e in root.iter() for name in e.get("class", "").split()} <= known
        edges = [float(e.attrib["x"]) for e in root.iter("{http://www.w3.org/2000/svg}text")]
        assert edges and min(edges) >= 0 and max(edges) <= 380


def test_figures_show_intervals_from_six_seeds_on(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = room / "docs" / "assets" / "study"

    def drawn(name: str, what: str) -> int:
        return (assets / f"primary-{name}.svg").read_text().count(f'class="{what}')

    assert main(room, monkeypatch) == 0
    assert drawn("success", "curve") == 8 and drawn("success", "band") == 0
    assert drawn("differences", "bar") == 24 and drawn("differences", 'whisker"') == drawn("held-out", 'whisker"') == 0
    assert "(" not in "".join(line for line in page(room) if line.startswith("| `aem`"))
    monkeypatch.setattr(report, "STUDIES", {"primary": replace(SMALL, seeds=tuple(range(6)))})
    write_results(SMALL, room / "results", (3, 4, 5), effects={"aem": 0.2}, steps=6, tasks=10)
    assert main(room, monkeypatch) == 0
    assert drawn("success", "curve") == drawn("success", "band") == 8
    assert drawn("differences", 'whisker"') == 3 * 24 and drawn("held-out", 'whisker"') == 3 * 16


def page(room: Path) -> list[str]:
    return (room / "docs" / "study.md").read_text().splitlines()


def test_the_page_says_whether_hypotheses_hold(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine pairs of one sign give 2/512, and 12/512 corrected for six."""
    nine = replace(SMALL, seeds=tuple(range(9)))
    monkeypatch.setattr(report, "STUDIES", {"primary": nine})
    write_results(nine, room / "results", range(8), effects={"aem": 0.2}, steps=6, tasks=10)
    assert main(room, monkeypatch) == 0
    (gain,) = [line for line in page(room) if line.startswith("| `aem` above `off` | `token_mean` | +")]
    assert gain.endswith("| 0.047 | not complete yet |") and sum("not complete" in line for line in page(room)) == 6
    write_results(nine, room / "results", (8,), effects={"aem": 0.2}, steps=6, tasks=10)
    assert main(room, monkeypatch) == 0
    verdicts = {tuple(line.split(" | ")[:2]): line.split(" | ")[-1] for line in page(room) if "hold" in line}
    assert verdicts.pop(("| `aem` above `off`", "`token_mean`")) == "holds |"
    assert verdicts.pop(("| `aem` above `shuffled`", "`token_mean`")) == "holds |"
    assert verdicts[("| `reversed` below `off`", "`token_mean`")] == "does not hold |"
    assert verdicts[("| `aem-episode` above `off-episode`", "`episode_mean`")] == "does not hold |"
    assert any("detectable at 80 % power, p < 0.0083 (Holm's strictest step) |" in line for line in page(room))


def test_episodes_are_on_the_page_where_arms_differ(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(room, monkeypatch) == 0
    assert not any("episodes played |" in line for line in page(room))
    runs = tables.read("primary", "runs", room / "results")
    more = [{**row, "episodes_played": "1000"} for row in runs if row["arm"] == "aem"]
    tables.add("primary", {"runs": more}, room / "results")
    assert main(room, monkeypatch) == 0
    assert any(line.startswith("| arm | seeds | episodes played | success over training |") for line in page(room))
    assert any(line.startswith("| `aem` | 3 | 1000 | ") for line in page(room))
    assert any(line.startswith("| `off` | 3 | 384 | ") for line in page(room))


def test_results_that_are_not_whole_are_refused(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = room / "results" / "primary" / "steps.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert main(room, monkeypatch) == 1
    assert "shuffled-episode 2: 5 rows in steps.csv of 6" in capsys.readouterr().err


def test_arms_that_are_compared_share_a_chart() -> None:
    assert panels(PRIMARY) == [
        ["off", "aem", "reversed", "shuffled"],
        ["off-episode", "aem-episode", "reversed-episode", "shuffled-episode"],
    ]
    many: Study = replace(
        SECONDARY,
        arms=dict.fromkeys(("plain", "base", "a", "b", "c", "d"), SECONDARY.arms["off"]),
        contrasts=tuple((arm, "base") for arm in "abcd"),
    )
    assert panels(many) == [["plain", "base", "a", "b", "c"], ["plain", "base", "d"]]
    assert colours(["off-episode", "aem", "x", "y"]) == {"off-episode": 0, "aem": 1, "x": 2, "y": 3}
    assert all({arm for chart in panels(study) for arm in chart} == set(study.arms) for study in STUDIES.values())


def test_analyses_are_drawn_and_summed_up(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = room / "results" / "analyses" / "tiny"
    folder.mkdir(parents=True)
    heads = (
        "group,task_id,h_resp,h_chain,h_resp_error,relative_surprisal,one_minus_alpha,h_resp_minus_scope_mean,within_r"
    )
    states = [f"0,t{i},1,1,0.01,{x},{x / 10},{-x},{'' if i else 0.5}" for i, x in enumerate((-1.0, 0.5, 1.0, 2.0))]
    (folder / "surprisal.csv").write_text("\n".join([heads, *states]) + "\n")
    slopes = {"off": 0.0, "none": 0.01, "fall": -0.02, "rise": 0.03}
    masks = [
        f"{mode},{t},{1 + s * t},{2 + s * t},{int(mode != 'rise' or t < 2)}"
        for mode, s in slopes.items()
        for t in range(4)
    ]
    heads = "mode,updates,token_entropy,response_entropy,kept_share"
    (folder / "entropy-mask.csv").write_text("\n".join([heads, *masks]) + "\n")
    page = room / "docs" / "study.md"
    assert main(room, monkeypatch) == 1  # no place for them yet
    page.write_text(page.read_text() + PLACES.format("analyses"))
    assert main(room, monkeypatch) == 0 and main(room, monkeypatch, "--check") == 0
    text = page.read_text()
    assert "`tiny`, 4 states" in text and "S − H of the responses taken: r = +1.00" in text
    assert "A·(α − 1) < 0 alone less A·(α − 1) > 0 alone: +0.0500" in text
    assert "A·(α − 1) > 0 alone less AEM off: −0.0200" in text.replace("-0", "−0")
    assert "AEM off in 4 of 4" in text and "A·(α − 1) < 0 alone in 2 of 4" in text
    assets = room / "docs" / "assets" / "study"
    assert (assets / "tiny-surprisal.svg").read_text().count('r="3.5"') == 4
    assert (assets / "tiny-entropy-mask.svg").read_text().count('class="curve') == 8
