"""What answers took: counts and costs of a process, and how they are shown."""

from io import StringIO

import pytest
from rich.console import Console

from aem_agent.engines.endpoint_usage import Usage, Used, read_usage
from aem_agent.prices import Prices
from aem_agent.terminal import print_usage


def shown(usage: Usage | None) -> str:
    out = StringIO()
    print_usage(Console(file=out, width=200), usage)
    return out.getvalue()


def test_answers_are_counted_and_shown() -> None:
    usage = Usage(Prices(1.0, 10.0))
    assert shown(usage) == shown(None) == ""
    usage.add(Used((1000, 100), cached=400))
    usage.add(Used((2000, 50), cost=0.5))
    usage.retries += 2
    assert usage.cost == pytest.approx(0.002 + 0.5)
    assert shown(usage) == (
        "endpoint, this time: 2 answers · 2 tried again · 3,000 prompt tokens (400 cached) · 150 response tokens · "
        "cost $0.5020\n"
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0)])
def test_a_part_of_the_cost_is_not_shown_as_all_of_it(order: tuple[int, ...]) -> None:
    usage = Usage(Prices(1.0, 10.0))
    for which in order:
        usage.add([Used((9, 9), cost=0.5), Used(None)][which])
    assert usage.cost is None and "cost" not in shown(usage)


@pytest.mark.parametrize("cost", [1e308, 1.1e6, -1, float("nan"), float("inf"), 10**400])
def test_costs_beyond_all_reason_are_not_known(cost: float) -> None:
    assert read_usage({"prompt_tokens": 1, "cost": cost}).cost is None
    assert read_usage({"prompt_tokens": 1, "cost": {"total_cost": cost}}).cost is None
