"""`aem-train analyse surprisal`: columns by hand, states that are returned to, and that it repeats."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from helpers import quick, quiet, rows_of

from aem_envs.core import Capabilities
from aem_envs.toy import ToyEnv
from trainer.analysis import inputs, states, surprisal
from trainer.analysis.results import AnalysisError
from trainer.analysis.surprisal import alpha_of_draws, analyse_surprisal, measured_config
from trainer.config import TrainConfig
from trainer.overrides import override


def test_alpha_of_draws_by_hand() -> None:
    """Each draw takes the place of the second of three responses: H̃ is 1/2 with 2, and 1 with 5, where the third has
    1/2 then."""
    found = alpha_of_draws(quick(), torch.tensor([1.0, 1.5, 3.0]), 1, torch.tensor([2.0, 5.0], dtype=torch.float64))
    e = [math.exp(-h) for h in (0, 0.5, 1)]
    assert found.tolist() == pytest.approx([3 * e[1] / sum(e), 3 * e[2] / sum(e)])


def alpha_by_hand(others: list[float], mine: float) -> float:
    """α of a response of mean entropy `mine` among the `others` of its group, without a guard."""
    means = [mine, *others]
    low, high = min(means), max(means)
    weights = [math.exp(-(m - low) / (high - low)) for m in means]
    return weights[0] * len(means) / sum(weights)


def test_surprisal_of_a_run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns against plain sums over what was played and drawn; the same again, file for file."""
    unguarded = override(inputs.run_config(trained), ["aem.range_guard=0"])  # this model knows next to nothing
    monkeypatch.setattr(surprisal, "run_config", lambda run: unguarded)
    seen: list[Any] = []
    row = surprisal.state_row

    def recorded(config: TrainConfig, batch: Any, state: Any, said: Any) -> Any:
        seen.append((batch, state, said))
        return row(config, batch, state, said)

    monkeypatch.setattr(surprisal, "state_row", recorded)
    options: dict[str, Any] = {"states": 5, "draws": 6, "environment_check": True, "reporter": quiet()}
    found = analyse_surprisal(trained, **options)
    rows = rows_of(trained / "analysis" / "surprisal.csv")
    assert len(rows) == len(seen) == 5 and found.files == tuple(
        trained / "analysis" / f"surprisal.{kind}" for kind in ("csv", "svg")
    )
    assert {(r["group"], r["repeat"]) for r in rows} <= {(str(g), str(e)) for g in range(3) for e in range(2)}
    assert len({(r["group"], r["repeat"]) for r in rows}) == 5  # one state of each episode
    for written, (batch, state, said) in zip(rows, seen):
        taken = state.taken.response
        at = (batch.span_index == state.response).nonzero().squeeze(1)
        assert batch.labels[at].tolist() == list(taken.token_ids)
        assert written["task_id"] == state.episode.task_id and written["turn"] == str(state.turn + 1)
        assert len({r.token_ids for r in said}) > 1 and all(r.token_ids for r in said)
        drawn = [-sum(r.logprobs) for r in said]
        h = sum(drawn) / 6
        assert float(written["h_resp"]) == pytest.approx(h, rel=1e-4)
        assert float(written["h_chain"]) == pytest.approx(sum(sum(r.entropies) for r in said) / 6, rel=1e-4)
        assert float(written["relative_surprisal"]) == pytest.approx(-sum(taken.logprobs) - h, rel=1e-4, abs=1e-4)
        group = (batch.group_index == batch.group_index[state.response]).nonzero().squeeze(1).tolist()
        means = {i: float(batch.entropies[batch.span_index == i].mean()) for i in group}
        others = [m for i, m in means.items() if i != state.response]
        alpha = alpha_by_hand(others, means[state.response])
        alphas = [alpha_by_hand(others, sum(r.entropies) / len(r.entropies)) for r in said]
        x, y = torch.tensor(drawn), torch.tensor(alphas)
        assert float(written["within_r"]) == pytest.approx(
            float(torch.corrcoef(torch.stack([x, 1 - y]))[0, 1]), rel=1e-3
        )
        assert float(written["alpha"]) == pytest.approx(alpha, rel=1e-4)
        assert float(written["one_minus_alpha"]) == pytest.approx(1 - alpha, rel=1e-3, abs=1e-4)
    files = [path.read_bytes() for path in found.files]
    assert analyse_surprisal(trained, **options).lines == found.lines
    assert [path.read_bytes() for path in found.files] == files
    assert "55 of 64" in found.lines[-1] and "paper" in found.lines[-1]


def test_states_are_returned_to(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that loses part of its state is found out, with --environment-check."""
    restore = ToyEnv.set_state

    def forgetful(self: ToyEnv, state: bytes) -> None:
        restore(self, state)
        self._steps = self.max_steps - 1

    monkeypatch.setattr(ToyEnv, "set_state", forgetful)
    options: dict[str, Any] = {"states": 4, "draws": 2, "reporter": quiet()}
    analyse_surprisal(trained, **options)
    with pytest.raises(AnalysisError, match="do not hold all of its state"):
        analyse_surprisal(trained, environment_check=True, **options)
    monkeypatch.setattr(ToyEnv, "capabilities", Capabilities())
    with pytest.raises(AnalysisError, match="no snapshots"):
        analyse_surprisal(trained, **options)


def test_a_turn_of_each_episode_is_chosen_anywhere_in_it(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[states.State] = []
    choose = surprisal.choose_states
    monkeypatch.setattr(surprisal, "choose_states", lambda *a: chosen.extend(choose(*a)) or list(chosen))
    monkeypatch.setattr(surprisal, "state_row", lambda *a: dict.fromkeys(NAMES, 0.0))
    analyse_surprisal(trained, states=41, draws=2, reporter=quiet())
    assert len(chosen) == 41
    late = [state.turn > 0 for state in chosen if len(state.episode.turns) > 1]
    assert any(late) and not all(late)
    assert all(0 <= state.turn < len(state.episode.turns) for state in chosen)
    assert len({state.snapshot for state in chosen}) > 10


NAMES = (
    "relative_surprisal",
    "one_minus_alpha",
    "h_resp_minus_scope_mean",
    "within_r",
    "h_resp",
    "h_resp_error",
    "h_chain",
)


def test_states_without_a_sign_are_left_out_and_counted() -> None:
    """S − H of rounding, or within two standard errors of H, says nothing; nor does an α of 1."""
    known = {"h_resp_minus_scope_mean": 2.0, "within_r": 0.5, "h_resp": 1.0, "h_chain": 1.0}
    given = [(3.0, 0.4, 0.1), (1e-9, 0.4, 0.0), (0.0, -0.3, 0.0), (0.5, 0.2, 0.3), (-2.0, 0.1, 0.1), (-1.0, 0.0, 0.1)]
    rows = [{"relative_surprisal": x, "one_minus_alpha": y, "h_resp_error": e, **known} for x, y, e in given]
    first, second = surprisal.summary_lines(rows)[:2]  # type: ignore[arg-type]
    assert "signs agree in 1 of 2 (50 %" in first and "1.0 expected by chance) states; 3 left out, within two" in first
    assert first.endswith("within two standard errors of 0; 1 left out, their α is 1")
    assert "signs agree in 4 of 5" in second and "within" not in second


def test_measured_with_aem_on_and_nothing_shuffled() -> None:
    config = measured_config(quick("aem.enabled=false", "aem.shuffle=true", "aem.sign_mask=fall", "aem.lam=0.5"))
    assert (config.aem.enabled, config.aem.shuffle, config.aem.sign_mask, config.aem.lam) == (True, False, "none", 0.5)
    with pytest.raises(AnalysisError, match="every α is 1"):
        measured_config(quick("aem.lam=0"))


@pytest.mark.parametrize(("scope", "members"), [("group", [0, 1, 2]), ("trajectory", [0, 1]), ("batch", [0, 1, 2, 3])])
def test_alpha_is_made_within_the_scope_of_the_run(scope: str, members: list[int]) -> None:
    class FourResponses:
        group_index = torch.tensor([0, 0, 0, 1])
        episode_index = torch.tensor([0, 0, 1, 2])
        n_responses = 4

    batch: Any = FourResponses()
    assert surprisal._scope(quick(f"aem.scope={scope}"), batch, 1).tolist() == members
