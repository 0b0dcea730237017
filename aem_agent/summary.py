"""What a set of episodes says: success with intervals, by task type, pass@k, lengths, errors.

Errored episodes are neither successes nor failures: they are counted apart and enter no rate.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aem_agent.prices import Prices, known_dollars
from aem_agent.record_format import MAX_NUMBER
from aem_agent.stats import Counts, Interval, clustered_mean, clustered_wilson, pass_at_k
from aem_agent.types import Episode, Turn

SCHEMA = 1
"""Version of `summary.json`."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Outcomes of some completed episodes."""

    n: int
    """Completed episodes: the denominator of every rate here."""
    tasks: int
    successes: int
    success_rate: float | None
    """None where n is 0, as for every mean."""
    success_interval: Interval
    """95 % Wilson interval, clustered by task (`stats.clustered_wilson`)."""
    mean_return: float | None
    """Native rewards, unshaped."""
    mean_score: float | None
    score_interval: Interval
    """95 % interval of the mean score, clustered by task (`stats.clustered_mean`)."""
    mean_steps: float | None

    @property
    def graded(self) -> bool:
        """Some episode scored otherwise than 1 where it was won and 0 where not: the score says more than success."""
        return self.mean_score != self.success_rate


@dataclass(frozen=True, slots=True)
class Summary:
    """`summary.json`. All of it follows from the episodes and the number planned."""

    env_id: str
    split: str
    n: int
    tasks: int
    successes: int
    success_rate: float | None
    success_interval: Interval
    mean_return: float | None
    mean_score: float | None
    score_interval: Interval
    mean_steps: float | None
    pass_at_k: dict[str, float]
    """k → mean over the tasks with at least k completed attempts; k = 1, 2, 4, … and the most attempts."""
    by_task_type: dict[str, Rates]
    invalid_action_rate: float | None
    """Share of turns without an action in the response, or with one that the environment refused."""
    invalid_format_rate: float | None
    """Share of turns without an action in the response."""
    truncations: dict[str, int]
    """Reason → completed episodes cut off by it."""
    errors: int
    """Episodes that ended in an infrastructure error."""
    error_types: dict[str, int]
    first_errors: dict[str, str]
    """Type → message of its first episode, by task id and repeat."""
    missing: int
    """Planned episodes without a record."""
    prompt_tokens: int
    """Of completed episodes, as every count of tokens and turns; 0 for policies without tokens."""
    response_tokens: int
    cost: float | None
    """US dollars of all recorded episodes, errored ones too: as the endpoint said, else from prices; None if neither is
    known of every turn: a sum of the others would be taken for all of it."""
    dropped_turns: int
    """Turns left out of prompts by the overflow rule, summed over prompts."""
    retries: int
    seconds: float
    """Wall time summed over episodes (they overlap)."""
    data_hash: str
    """Hash over (task id, hash of its data): equal for two runs over the same data."""
    engine: str
    """What the environment ran on, as completed episodes say it (WebShop: catalogue, its size, tagger)."""
    phases: dict[str, float]
    """Mean seconds of a completed episode by phase, where the environment tells (`info["seconds"]`)."""
    details: dict[str, float]
    """Means of the fractions in the last `info["details"]` of completed episodes, each over those that have it."""
    verdicts: dict[str, int]
    """What the environment said of the end (`info["details"]["verdict"]`) → completed episodes."""
    schema: int = SCHEMA

    @property
    def overall(self) -> Rates:
        """The rates over all completed episodes."""
        return Rates(**{name: getattr(self, name) for name in Rates.__slots__})

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return asdict(self)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def by_task(episodes: Iterable[Episode]) -> dict[str, list[Episode]]:
    """Episodes by task id."""
    tasks: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        tasks[episode.task_id].append(episode)
    return tasks


def rates(episodes: Sequence[Episode]) -> Rates:
    """Rates of completed episodes."""
    tasks = by_task(episodes).values()
    counts = [Counts(sum(e.won for e in attempts), len(attempts)) for attempts in tasks]
    successes = sum(c.successes for c in counts)
    return Rates(
        n=len(episodes),
        tasks=len(counts),
        successes=successes,
        success_rate=successes / len(episodes) if episodes else None,
        success_interval=clustered_wilson(counts),
        mean_return=_mean([e.return_ for e in episodes]),
        mean_score=_mean([e.score for e in episodes]),
        score_interval=clustered_mean([[e.score for e in attempts] for attempts in tasks]),
        mean_steps=_mean([len(e.turns) for e in episodes]),
    )


def _pass_at(completed: Sequence[Episode]) -> dict[str, float]:
    counts = [(len(attempts), sum(e.won for e in attempts)) for attempts in by_task(completed).values()]
    most = max((n for n, _ in counts), default=0)
    ks = sorted({*(2**i for i in range(most.bit_length())), most} - {0})
    return {str(k): sum(p) / len(p) for k in ks if (p := [pass_at_k(n, c, k) for n, c in counts if n >= k])}


def prompt_tokens(turn: Turn) -> int:
    """Length of a turn's prompt, counted by whoever knows it."""
    return turn.response.usage[0] if turn.response.usage else len(turn.prompt_token_ids)


def response_tokens(turn: Turn) -> int:
    """Length of a turn's response, counted by whoever knows it."""
    return turn.response.usage[1] if turn.response.usage else len(turn.response.token_ids)


def cost(turn: Turn, prices: Prices | None) -> float | None:
    """US dollars that a turn took: what the endpoint said, else what its tokens cost; None where neither is known."""
    said, told = turn.response, known_dollars(turn.response.cost)
    if told is not None or prices is None or not (said.usage or said.token_ids or turn.prompt_token_ids):
        return told
    return known_dollars(prices.cost(prompt_tokens(turn), response_tokens(turn)))


def _first_errors(found: Sequence[Episode]) -> dict[str, str]:
    first: dict[str, str] = {}
    for episode in found:
        kind, _, message = (episode.error or "").partition(": ")
        if episode.error is not None:
            first.setdefault(kind, message)
    return dict(sorted(first.items()))


def data_hash(episodes: Iterable[Episode]) -> str:
    """The data hash that several tasks share (a catalogue's); else SHA-256 over the sorted (task id, data hash) pairs.

    16 hex digits either way.
    """
    completed = [e for e in episodes if e.completed]
    shared = {e.data_hash for e in completed}
    if len(shared) == 1 and len({e.task_id for e in completed}) > 1:
        return shared.pop()
    pairs = sorted({f"{e.task_id}\t{e.data_hash}\n" for e in completed})
    return hashlib.sha256("".join(pairs).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def summarize(
    episodes: Iterable[Episode], *, env_id: str, split: str, planned: int | None = None, prices: Prices | None = None
) -> Summary:
    """Summary of `episodes`, in any order, one per (task, repeat); `planned` episodes were asked for.

    The result does not depend on the order of the episodes.
    """
    found = sorted(episodes, key=lambda e: (e.task_id, e.repeat))
    completed = [e for e in found if e.completed]
    errors = Counter(e.error.partition(":")[0] for e in found if e.error is not None)
    turns = [turn for e in completed for turn in e.turns]
    costs = [cost(turn, prices) for e in found for turn in e.turns]
    known = [spent for spent in costs if spent is not None]
    types: dict[str, list[Episode]] = defaultdict(list)
    for episode in completed:
        types[episode.task_type].append(episode)
    overall = rates(completed)
    return Summary(
        env_id=env_id,
        split=split,
        **asdict(overall),
        pass_at_k=_pass_at(completed),
        by_task_type={kind: rates(types[kind]) for kind in sorted(types)},
        invalid_action_rate=_mean([not (t.format_valid and t.action_valid) for t in turns]),
        invalid_format_rate=_mean([not t.format_valid for t in turns]),
        truncations=dict(sorted(Counter(e.truncation_reason or "unknown" for e in completed if e.truncated).items())),
        errors=sum(errors.values()),
        error_types=dict(sorted(errors.items())),
        first_errors=_first_errors(found),
        missing=max(0, (planned or 0) - len(found)),
        prompt_tokens=sum(map(prompt_tokens, turns)),
        response_tokens=sum(map(response_tokens, turns)),
        cost=round(sum(known), 9) if costs and len(known) == len(costs) else None,
        dropped_turns=sum(t.dropped_turns for t in turns),
        retries=sum(e.retries for e in found),
        seconds=round(sum(e.seconds for e in found), 6),
        data_hash=data_hash(found),
        engine=", ".join(sorted({e.engine for e in completed if e.engine})),
        phases=_phases(completed),
        details=_mean_details(completed),
        verdicts=_verdicts(completed),
    )


def _phases(completed: Sequence[Episode]) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    for episode in completed:
        for turn in episode.turns:
            for phase, seconds in _mapping(turn.info.get("seconds")).items():
                spent[phase] += seconds if _summable(seconds) else 0.0
    return {phase: round(seconds / len(completed), 6) for phase, seconds in sorted(spent.items())}


def _verdicts(completed: Sequence[Episode]) -> dict[str, int]:
    ends = map(last_details, completed)
    return dict(sorted(Counter(str(end["verdict"]) for end in ends if "verdict" in end).items()))


def last_details(episode: Episode) -> dict[str, Any]:
    """The environment's details of an episode's end."""
    return _mapping(episode.turns[-1].info.get("details")) if episode.turns else {}


def _mapping(value: Any) -> dict[str, Any]:
    """What a record has where a mapping belongs; empty where it is something else."""
    return value if isinstance(value, dict) else {}


def _summable(value: Any) -> bool:
    return isinstance(value, float) and abs(value) <= MAX_NUMBER


def _mean_details(completed: Sequence[Episode]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for episode in completed:
        for name, value in last_details(episode).items():
            if _summable(value):
                found[name].append(value)
    return {name: sum(values) / len(values) for name, values in sorted(found.items())}


def format_interval(interval: Sequence[float]) -> str:
    """A percentage interval for people, as in "76.1–87.5"."""
    return f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}"


def format_score(score: float | None, interval: Sequence[float] | None = None) -> str:
    """A score for people, "–" where there is none; with its interval, as in "0.612 (0.55–0.67)"."""
    if score is None:
        return "–"
    return f"{score:.3f}" + (f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval else "")


def format_rate(rate: float | None) -> str:
    """A percentage for people, "–" where there is none."""
    return "–" if rate is None else f"{100 * rate:.1f} %"


def format_cost(dollars: float) -> str:
    """US dollars for people, to a hundredth of a cent below one dollar."""
    if 0 < dollars < 0.0001:
        return "below $0.0001"
    return f"${dollars:.2f}" if dollars >= 1 else f"${dollars:.4f}"
