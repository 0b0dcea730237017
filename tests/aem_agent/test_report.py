"""Reports: nothing hostile gets through, nothing is fetched, charts survive odd numbers."""

from html.parser import HTMLParser
from math import inf, nan

import pytest

from aem_agent.report import Bar, Markup, Series, bar_chart, episode_view, join, line_chart, page, table, tag, tiles
from aem_agent.report.charts import ticks
from aem_agent.types import Episode, Response, Turn

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='x'>\x1b[2J\x1b]0;title\x07&amp;\u202e</details></svg><style>"
VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Collects tags and attributes, and checks that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for key, value in attrs:
            self.attributes.setdefault(key, set()).add(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open
    return checker


def hostile_episode() -> Episode:
    turn = Turn(
        observation=HOSTILE,
        response=Response(text=HOSTILE, token_ids=(1,), finish_reason="length"),
        action=HOSTILE + "x",
        format_error=HOSTILE,
        reward=1.0,
        info={"action_error": HOSTILE},
        dropped_turns=2,
    )
    return Episode(
        env_id=HOSTILE, task_id=HOSTILE, task_type=HOSTILE, split=HOSTILE, repeat=1, seed=0, turns=(turn,),
        final_observation=HOSTILE, truncated=True, truncation_reason=HOSTILE, error=HOSTILE,
    )  # fmt: skip


def hostile_page() -> str:
    return page(
        HOSTILE,
        [
            (HOSTILE, HOSTILE),
            ("a", join(table([HOSTILE], [[HOSTILE]]), tiles([(HOSTILE, HOSTILE, HOSTILE)]), HOSTILE)),
            ("b", episode_view(hostile_episode())),
            ("c", line_chart([Series(HOSTILE, [0, 1], [0, 1])], caption=HOSTILE, x_label=HOSTILE)),
            ("d", bar_chart([Bar(HOSTILE, 1, 0, 2, HOSTILE)], caption=HOSTILE)),
        ],
        subtitle=HOSTILE,
        footer=HOSTILE,
    )


def test_hostile_texts_stay_texts() -> None:
    html = hostile_page()
    checker = parsed(html)
    assert not checker.tags & {"script", "img", "iframe", "link", "object", "a", "form"}
    assert not any(key.startswith("on") for key in checker.attributes)
    assert "alert(1)" in checker.text  # shown, not dropped
    assert not any(c in html for c in "\x1b\x07\u202e")


def test_a_page_asks_nothing_of_the_network() -> None:
    html = hostile_page()
    checker = parsed(html)
    assert not checker.attributes.keys() & {"src", "href", "action", "style"}
    assert "url(" not in html and "@import" not in html and "http://" not in html and "https://" not in html
    policy = next(value for value in checker.attributes["content"] if "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    assert "prefers-color-scheme: dark" in html


def test_markup_survives_joining_and_strings_do_not() -> None:
    bold = tag("b", "<x>")
    assert bold == "<b>&lt;x&gt;</b>"
    assert isinstance(bold + "<", Markup) and bold + "<" == "<b>&lt;x&gt;</b>&lt;"
    assert "<" + bold == "&lt;<b>&lt;x&gt;</b>"
    assert Markup(" ").join([bold, "<"]) == "<b>&lt;x&gt;</b> &lt;"


def test_table_aligns_numbers() -> None:
    html = table(["name", "n"], [["a", 3], ["b", "4"]], numbers=[1])
    assert html.count('class="number"') == 3  # head and two cells
    assert '<td>a</td><td class="number">3</td>' in html


def test_episode_view_shows_every_part_of_a_turn() -> None:
    won = Episode(
        "aem/Toy-v0", "t1", "", "test", 0, 0, (Turn("see", Response("look"), "look"),), "done", True, won=True
    )
    html = episode_view(won, open_=True)
    assert '<details class="episode" open>' in html and 'badge good">won' in html
    for part in ("see", "look", "done", "t1"):
        assert part in html
    parsed(html)
    broken = Turn("see", Response("um"), "um", format_valid=False, format_error="no_action")
    html = episode_view(Episode("e", "t", "", "test", 0, 0, (broken,), terminated=True))
    assert "no action found" in html and "parser: no_action" in html and 'badge bad">lost' in html


def test_long_texts_are_cut() -> None:
    html = episode_view(Episode("e", "t", "", "test", 0, 0, final_observation="x" * 1_000_000))
    assert len(html) < 30_000 and "980000 more characters" in html


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 149, [0, 50, 100]), (-3, 3, [-2, 0, 2]), (5, 5, [5])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("ys", [[], [nan], [inf, -inf], [3.0], [1.0, nan, 2.0, 3.0], [1e300, -1e300], [0.0] * 5000])
def test_line_chart_survives_odd_numbers(ys: list[float]) -> None:
    xs = [float(i) for i in range(len(ys))]
    html = line_chart([Series("a", xs, ys, ys, ys)], percent=True)
    parsed(html)
    assert "nan" not in html and "inf" not in html
    assert html.count("<circle") <= 200


def test_gaps_split_the_curve() -> None:
    html = line_chart([Series("a", [0, 1, 2, 3, 4], [1, 1, nan, 2, 2])])
    assert html.count("<polyline") == 2


def test_bar_chart_draws_intervals_only_where_given() -> None:
    html = bar_chart([Bar("a", 0.5, 0.25, 0.75), Bar("b", 0.1)], percent=True, x_range=(0, 1))
    assert html.count('class="whisker"') == 3
    assert "a: 50 % (25 % to 75 %)" in html and "b: 10 %" in html
    parsed(bar_chart([]))
