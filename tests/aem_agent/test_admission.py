"""When waiting requests join: what waiting costs against what joining costs."""

import pytest

from aem_agent.engines.admission import Admission


def steps_until_admitted(admission: Admission, waiting: int, running: int) -> int:
    return next(step for step in range(10_000) if admission.admits(waiting, running))


def test_an_empty_batch_starts_at_once_and_nobody_waiting_is_nothing_to_do() -> None:
    admission = Admission()
    assert admission.admits(1, 0) and not admission.admits(0, 0) and not admission.admits(0, 5)


@pytest.mark.parametrize(("waiting", "running", "steps"), [(64, 64, 4), (32, 96, 8), (96, 0, 0), (3, 1, 3)])
def test_waiting_ends_when_it_has_cost_the_price(waiting: int, running: int, steps: int) -> None:
    admission = Admission(price=2.0, patience=100)
    assert [steps_until_admitted(admission, waiting, running) for _ in range(3)] == [steps] * 3


def test_one_alone_beside_many_waits_so_long_and_no_longer() -> None:
    assert steps_until_admitted(Admission(price=2.0, patience=32), 1, 255) == 32


def test_steps_without_anyone_waiting_cost_nothing() -> None:
    admission = Admission(price=1.0, patience=100)
    assert not admission.admits(1, 1)
    assert not any(admission.admits(0, 2) for _ in range(50))
    assert steps_until_admitted(admission, 1, 1) == 1
