"""The code that `docs/adapters.md` offers."""

import math
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from trainer import cli

ROOT = Path(__file__).resolve().parents[2]


def listing(name: str) -> str:
    """The page's file of that name."""
    text = (ROOT / "docs" / "adapters.md").read_text()
    return dict(re.findall(r"```python file=(\S+)\n(.*?)```", text, flags=re.S))[name]


def test_the_function_for_padded_batches() -> None:
    """Two groups; two rows of the first hold two responses. H̄: 1, 3, 2, 2 | 5; the second group is guarded."""
    space: dict[str, Any] = {}
    exec(listing("modulated.py"), space)
    mask = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 1, 1]])
    entropies = torch.tensor([[0.5, 1.5, 9, 3], [5, 9, 9, 9], [9, 5, 5, 9], [2, 9, 1, 3]])
    advantages = torch.tensor([[1.0, 1, 7, 1], [2, 7, 7, 7], [7, -2, -2, 7], [-1, 7, -1, -1]])
    found = space["modulated"](advantages, entropies, mask, ["b", "a", "a", "b"])
    low, middle, high = 1.0, math.exp(-0.5), math.exp(-1)
    mean = (low + high + 2 * middle) / 4
    first, last, other = low / mean, high / mean, middle / mean
    wanted = [[first, first, 7, last], [2, 7, 7, 7], [7, -2, -2, 7], [-other, 7, -other, -other]]
    torch.testing.assert_close(found, torch.tensor(wanted))


MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
ENTROPIES = torch.tensor([[1.0, 1, 3, 3], [4, 4, 4, 9]])
PLAIN = torch.tensor([[1.0, 1, 0, 1], [-1, -1, -1, 0]])
"""Two responses of one group, H̄ 2 and 4; the correction took the third token of the first out."""


def wanted_of_both() -> torch.Tensor:
    first, second = (2 / (1 + math.exp(-1)), 2 * math.exp(-1) / (1 + math.exp(-1)))
    return torch.stack([PLAIN[0] * first, PLAIN[1] * second])


def module(monkeypatch: pytest.MonkeyPatch, name: str, **what: Any) -> ModuleType:
    """A stand-in for a module, and for the packages that it is in."""
    packages = name.split(".")
    for n in range(1, len(packages)):
        if ".".join(packages[:n]) not in sys.modules:
            monkeypatch.setitem(sys.modules, ".".join(packages[:n]), ModuleType(packages[n - 1]))
    made = ModuleType(name)
    vars(made).update(what)
    monkeypatch.setitem(sys.modules, name, made)
    if len(packages) > 1:
        monkeypatch.setattr(sys.modules[name.rpartition(".")[0]], packages[-1], made, raising=False)
    return made


def the_function() -> Callable[..., torch.Tensor]:
    space: dict[str, Any] = {}
    exec(listing("modulated.py"), space)
    function: Callable[..., torch.Tensor] = space["modulated"]
    return function


class Fields(dict[str, Any]):
    """A batch of fields without padding."""

    def to_padded_tensor(self) -> "Fields":
        return self


def test_verl_takes_responses_from_the_mask_before_corrections(monkeypatch: pytest.MonkeyPatch) -> None:
    uids = SimpleNamespace(tolist=lambda: ["a", "a"])
    held: dict[str, Any] = {"uid": uids, "entropy": ENTROPIES, "response_mask": MASK, "returns": PLAIN}

    class Batch(SimpleNamespace):
        def __len__(self) -> int:
            return 2

    batch = Batch(keys=["0", "1"], partition_id="p")

    def put(keys: Any, partition_id: str, fields: dict[str, Any]) -> Batch:
        held.update(fields)
        return batch

    class Sync:
        def _compute_advantage(self, batch: Batch, metrics: dict[str, Any]) -> Batch:
            return put(None, "p", {"advantages": PLAIN, "response_mask": MASK * (PLAIN != 0)})

    module(monkeypatch, "modulated", modulated=the_function())
    module(
        monkeypatch,
        "transfer_queue",
        kv_batch_get=lambda keys, partition_id, select_fields: Fields({name: held[name] for name in select_fields}),
        kv_batch_put=put,
    )
    module(monkeypatch, "tensordict", TensorDict=lambda fields, batch_size: fields)
    module(monkeypatch, "verl.trainer.ppo.v1.trainer_sync", PPOTrainerSync=Sync)
    module(monkeypatch, "verl.workers.utils.padding", response_to_nested=lambda values, mask: values)
    exec(listing("aem_verl.py"), {})
    assert Sync()._compute_advantage(batch, metrics={}) is batch
    torch.testing.assert_close(held["advantages"], wanted_of_both())
    assert held["returns"] is PLAIN
    assert held["response_mask"].tolist() == [[1, 1, 0, 1], [1, 1, 1, 0]]


def test_verl_v0_takes_responses_from_the_mask_before_corrections(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        def _compute_old_log_prob(self, batch: Any) -> tuple[Any, float]:
            return SimpleNamespace(batch={"entropys": ENTROPIES}), 0.5

    def compute_advantage(data: Any, adv_estimator: str) -> Any:
        data.batch["advantages"] = PLAIN
        return data

    module(monkeypatch, "modulated", modulated=the_function())
    there = module(
        monkeypatch, "verl.trainer.ppo.ray_trainer", RayPPOTrainer=Trainer, compute_advantage=compute_advantage
    )
    exec(listing("aem_verl_v0.py"), {})
    data = SimpleNamespace(
        batch={"response_mask": MASK.clone()}, non_tensor_batch={"uid": SimpleNamespace(tolist=lambda: ["a", "a"])}
    )
    found, mfu = Trainer()._compute_old_log_prob(data)
    assert mfu == 0.5
    found.batch.pop("entropys")
    data.batch["response_mask"].mul_(PLAIN != 0)
    assert there.compute_advantage(data, adv_estimator="grpo") is data
    torch.testing.assert_close(data.batch["advantages"], wanted_of_both())


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs the page's file of that name, with substitutions, and gives what it prints.

    In this process and in a folder of its own: to load TRL once more takes longer than all that the files do.
    """
    pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def run(name: str, *instead: tuple[str, str]) -> str:
        capsys.readouterr()
        exec(compile(replaced(listing(name), *instead), name, "exec"), {"__name__": "__main__"})
        return capsys.readouterr().out

    return run


def replaced(text: str, *instead: tuple[str, str]) -> str:
    """The text with second for first of each pair, all of which it has once."""
    for old, new in instead:
        assert text.count(old) == 1, f"{old} is not there once"
        text = text.replace(old, new)
    return text


@pytest.mark.slow
def test_the_example_with_trl_runs(ran: Callable[..., str]) -> None:
    assert ran("grpo_aem.py").count("'aem/alpha_q05'") == 4


@pytest.mark.slow
def test_the_example_with_an_environment_in_trl_runs(ran: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = re.findall(r"```bash\n(aem-train .*?)```", (ROOT / "docs" / "adapters.md").read_text(), flags=re.S)
    command = replaced(command.replace("\\\n", ""), ("warmstart.steps=150", "warmstart.steps=40"))
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    said = ran("grpo_toy.py", ("max_steps=4", "max_steps=2"), ("batch_size=32", "batch_size=8"))
    assert said.count("'env/won'") == 2 and "'rewards/env_reward/mean'" in said
