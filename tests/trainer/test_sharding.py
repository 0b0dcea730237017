"""A model sharded over one process is the plain one; what several would compute and play is divided evenly."""

import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from helpers import assert_same, figures, quick, resume, run
from tiny_models import KINDS, episodes, made

from aem_agent.model.interface import load_model
from aem_agent.types import TaskRef
from trainer import sharding
from trainer.batch import Batch, build
from trainer.checkpoints import Checkpoint, Progress, save
from trainer.config import ScaleConfig
from trainer.division import Division
from trainer.gradients import add_up, backward, clip
from trainer.learner import make_optimiser
from trainer.lora import adapt
from trainer.minibatches import divided, micro_batches
from trainer.parity import PARITY, parity
from trainer.passes import Rows, parts
from trainer.policy import Policy
from trainer.state import newest
from trainer.stopping import StoppedRun
from trainer.weights import Weights, loaded
from trainer.world import ALONE, ProcessError, World, opened

SHARDED = ScaleConfig(shard=True)
CPU = torch.device("cpu")


def losses_and_gradients(policy: Policy, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    said = policy(batch, 0.7)
    backward((said.logprobs.sum() + said.entropies.square().sum()), policy.parameters(), ALONE)
    return said.logprobs.detach(), {
        n: sharding.whole(p.grad).clone() for n, p in policy.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_world_of_one_shard_computes_the_same(kind: str) -> None:
    batch, _ = build(episodes(turns=2))
    plain = losses_and_gradients(Policy(made(kind)), batch)
    with opened("cpu", group=True) as world:
        policy = sharding.shard(Policy(made(kind)), SHARDED, sharding.mesh_of(world, CPU), CPU)
        assert len(sharding.blocks(policy.model)) > 1 and sharding.sharded(policy.parameters())
        found = losses_and_gradients(policy, batch)
        assert sharding.sharded(policy.parameters()), "between passes there are shards only"
        norm = clip(policy.parameters(), 1.0)
    assert found[0].equal(plain[0])
    assert found[1].keys() == plain[1].keys() and all(found[1][n].equal(g) for n, g in plain[1].items())
    assert float(norm) == pytest.approx(float(torch.stack([g.norm() for g in plain[1].values()]).norm()), rel=1e-5)


@pytest.mark.parametrize("lora", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_shards_that_are_filled_from_files_are_those_of_the_loaded_model(kind: str, lora: int, tmp_path: Path) -> None:
    """Weights, adapters, buffers, and what is trained; of the trained model, of the copy, and of a frozen one."""
    made(kind).save(tmp_path)
    scale = ScaleConfig(shard=True, lora_rank=lora, checkpoint_activations=True)
    plain = load_model(tmp_path)
    if lora:
        adapt(plain, scale, seed=7)
    batch, _ = build(episodes(turns=2))
    want = losses_and_gradients(Policy(plain), batch)
    with opened("cpu", group=True) as world:
        found = Weights(scale, tmp_path, CPU, world, seed=7, keeps=True)
        assert sharding.sharded(found.policy.parameters()) and found.whole is not None
        for model in (found.model, found.whole):
            for name, parameter in model.named_parameters():
                same = dict(plain.named_parameters())[name]
                assert sharding.whole(parameter.detach()).equal(same) and parameter.requires_grad == same.requires_grad
        logprobs, gradients = losses_and_gradients(found.policy, batch)
        assert logprobs.equal(want[0]) and gradients.keys() == want[1].keys()
        assert all(gradients[name].equal(gradient) for name, gradient in want[1].items())
        frozen = found.frozen(tmp_path)
        assert sharding.sharded(frozen.parameters()) and not any(p.requires_grad for p in frozen.parameters())
        assert frozen(batch, 0.7).logprobs.equal(want[0])
        other = made(kind)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(1.5)
        other.save(tmp_path / "other")
        found.adopt(tmp_path / "other")
        best = dict(load_model(tmp_path / "other").export())
        assert all(best[name].equal(weight) for name, weight in found.whole.export())


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 6])
@pytest.mark.parametrize("lora", [0, 3])
def test_each_process_fills_its_own_part(rank: int, lora: int, tmp_path: Path) -> None:
    """Of seven, among which rows do not divide: of files in half precision, in a process of its own, as torch keeps
    what it has worked out of the first group that it sees."""
    model = made("qwen2")
    cast(nn.Module, model).to(torch.bfloat16)
    model.save(tmp_path)
    command = [sys.executable, Path(__file__).parent / "one_shard.py", tmp_path, str(rank), "7", str(lora)]
    subprocess.run([*map(str, command)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found = load_file(tmp_path / "shards.safetensors")
    plain = load_model(tmp_path)
    if lora:
        adapt(plain, ScaleConfig(lora_rank=lora), seed=7)
    assert found.keys() == dict(plain.named_parameters()).keys()
    for name, parameter in plain.named_parameters():
        parts = parameter.chunk(7)
        want = parts[rank] if rank < len(parts) else parameter[:0]
        assert found[name].dtype == torch.float32 and found[name].equal(want), name


def test_only_what_transformers_makes_is_loaded_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "in_turn", lambda self, load: (load(), "in turn"))
    monkeypatch.setattr(World, "together", lambda self, load: (load(), "together"))
    for kind, how in (("qwen3", "together"), ("llama", "in turn")):
        made(kind).save(tmp_path / kind)
        assert loaded(ALONE, tmp_path / kind, lambda: "a model") == ("a model", how)


def test_a_numbered_cpu_is_a_cpu() -> None:
    with opened("cpu", group=True) as world:
        assert sharding.mesh_of(world, torch.device("cpu:0")).device_type == "cpu"


def test_gradients_are_sums_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes with the same share each: twice its gradient, of what is sharded and of what is not."""

    def twice(world: World, tensors: list[torch.Tensor]) -> None:
        for tensor in tensors:
            tensor.mul_(2)

    monkeypatch.setattr(World, "sum_all", twice)
    monkeypatch.setattr(World, "sum", lambda self, tensor: tensor)
    batch, _ = build(episodes(turns=1))
    plain, two, value = Policy(made("qwen3")), World(0, 2), nn.Parameter(torch.ones(1))
    backward(plain(batch, 1.0).logprobs.sum() + 3 * value, plain.parameters(), two)
    add_up(plain.parameters(), [value], two)
    assert value.grad is not None and value.grad.item() == 6
    value.grad = None
    with opened("cpu", group=True) as world:
        policy = sharding.shard(Policy(made("qwen3")), SHARDED, sharding.mesh_of(world, CPU), CPU)
        backward(policy(batch, 1.0).logprobs.sum() + 3 * value, policy.parameters(), two)
        # the mean over two processes with the same share, which FSDP2 would take, is what one of them has
        add_up(policy.parameters(), [value], two)
        found = {name: sharding.whole(p.grad) for name, p in policy.named_parameters() if p.grad is not None}
    assert value.grad is not None and value.grad.item() == 6
    assert all(found[name].allclose(p.grad) for name, p in plain.named_parameters() if p.grad is not None)


def test_gradients_of_one_process_only_are_added_to_the_right_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two experts of a mixture, of which each process comes to one; a third to which none comes."""
    ranks = [[nn.Parameter(torch.ones(2)) for _ in range(3)] for _ in range(2)]
    messages: list[list[torch.Tensor]] = []
    for rank, experts in enumerate(ranks):
        backward(experts[rank].sum() * (rank + 1), experts, ALONE)

    def recorded(world: World, tensors: list[torch.Tensor]) -> None:
        messages.append([t.clone() for t in tensors])

    def anywhere(world: World, tensor: torch.Tensor) -> torch.Tensor:
        return tensor + tensor.new_tensor([world.rank, 1 - world.rank, 0])  # what the other one has

    monkeypatch.setattr(World, "sum_all", recorded)
    monkeypatch.setattr(World, "sum", anywhere)
    for rank, experts in enumerate(ranks):
        add_up(experts, [], World(rank, 2))
        assert experts[2].grad is None
    totals = [(a + b).tolist() for a, b in zip(*messages, strict=True)]
    assert totals == [[1, 1], [2, 2]]


def test_half_precision_keeps_single_precision_weights() -> None:
    batch, _ = build(episodes(turns=2))
    exact = Policy(made("qwen3"))(batch, 1.0).logprobs
    with opened("cpu", group=True) as world:
        scale = ScaleConfig(shard=True, precision="bfloat16")
        policy = sharding.shard(Policy(made("qwen3")), scale, sharding.mesh_of(world, CPU), CPU)
        said = policy(batch, 1.0)
        said.logprobs.sum().backward()
        assert {p.dtype for p in policy.parameters()} == {torch.float32}
        assert {p.grad.dtype for p in policy.parameters() if p.grad is not None} == {torch.float32}
    assert said.logprobs.dtype == torch.float32
    assert 0 < float((said.logprobs - exact).detach().abs().max()) < 0.5


def test_weights_and_optimiser_states_go_apart_and_come_together() -> None:
    config = quick().optimiser
    batch, _ = build(episodes(turns=2))

    def trained(policy: Policy) -> tuple[dict[str, Any], dict[str, Any], Any]:
        optimiser = make_optimiser(policy.parameters(), 1e-2, config)
        losses_and_gradients(policy, batch)
        optimiser.step()
        return sharding.whole_state(policy.model), sharding.whole_optimiser(optimiser), optimiser

    weights, state, _ = trained(Policy(made("qwen3")))
    with opened("cpu", group=True) as world:
        policy = sharding.shard(Policy(made("qwen3")), SHARDED, sharding.mesh_of(world, CPU), CPU)
        found, found_state, optimiser = trained(policy)
        assert found.keys() == weights.keys() and all(found[n].allclose(w, atol=1e-6) for n, w in weights.items())
        assert found_state.keys() == state.keys() and found_state["param_groups"] == state["param_groups"]
        assert all(type(v) is torch.Tensor for values in found_state["state"].values() for v in values.values())
        sharding.load_state(policy.model, {name: w + 1 for name, w in weights.items()})
        more = {number: {name: v + 1 for name, v in values.items()} for number, values in state["state"].items()}
        sharding.load_optimiser(optimiser, {**state, "state": more})
        again, again_state = sharding.whole_state(policy.model), sharding.whole_optimiser(optimiser)
        copy = made("qwen3")
        sharding.refresh(copy, policy)
    assert all(again[name].equal(w + 1) for name, w in weights.items())
    assert all(again_state["state"][n][k].equal(v + 1) for n, s in state["state"].items() for k, v in s.items())
    assert isinstance(copy, nn.Module) and all(w.equal(again[name]) for name, w in copy.state_dict().items())


def test_a_run_in_one_shard_is_bit_for_bit_one_without(whole: Path, tmp_path: Path) -> None:
    run(quick("scale.shard=true"), tmp_path / "shard")
    assert_same(whole, tmp_path / "shard")


def test_a_sharded_run_may_go_on_without_and_the_other_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import loop

    original = loop.rl_step
    settings = ("algorithm.estimator=ppo", "checkpoint.every=1", "steps=3", "warmstart.steps=2", "scale.lora_rank=2")
    settings += ("algorithm.kl_coefficient=0.01",)
    run(quick(*settings), tmp_path / "whole")

    def cut(running: Any, step: int) -> dict[str, Any]:
        if step == 2:
            raise KeyboardInterrupt
        return original(running, step)

    path = tmp_path / "cut"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "rl_step", cut)
        run(quick(*settings, "scale.shard=true"), path)
    resume(path)
    assert figures(path) == figures(tmp_path / "whole")


# -- what several processes would do ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("max_tokens", [None, 40])
def test_micro_batches_are_divided_once_each_and_evenly(size: int, max_tokens: int | None) -> None:
    batch, _ = build(episodes(tasks=3, turns=3))
    chunks = micro_batches(batch, torch.arange(batch.n_sequences), max_tokens)
    mine = [divided(batch, chunks, max_tokens, World(rank, size)) for rank in range(size)]
    assert len({len(m) for m in mine}) == 1, "as many passes on each"
    counted = torch.cat([sequences for m in mine for sequences, counts in m if counts])
    assert counted.sort().values.tolist() == list(range(batch.n_sequences))
    lengths = batch.cu_seqlens.diff()
    loads = [sum(int(lengths[s].sum()) for s, counts in m if counts) for m in mine]
    assert max(loads) - min(loads) <= int(lengths.max())
    if max_tokens is not None:
        assert all(len(s) == 1 or int(lengths[s].sum()) <= max_tokens for m in mine for s, _ in m)


def test_processes_without_a_share_repeat_what_does_not_count() -> None:
    batch, _ = build(episodes(tasks=1, group_size=1, turns=1))
    assert divided(batch, [torch.tensor([0])], None) == [(torch.tensor([0]), True)]
    assert divided(batch, [torch.tensor([0])], None, World(1, 2)) == [(torch.tensor([0]), False)]


def test_rows_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, _ = build(episodes(tasks=2, turns=2))
    worlds = [World(rank, 3) for rank in range(3)]
    found = []
    for world in worlds:
        rows = Rows(len(batch.targets))
        for part, counts in parts(batch, 30, world):
            rows.add(part.targets, part.batch.labels.float() + 1, counts)
        with monkeypatch.context() as patch:
            patch.setattr(World, "sum", lambda self, tensor: tensor)
            found.append(rows.of_all(world))
    assert sum(found).tolist() == (batch.labels + 1).tolist()  # type: ignore[union-attr]


def test_tasks_are_divided_and_put_in_order_again() -> None:
    tasks = [TaskRef("env", name, "train") for name in "abcab"]
    divisions = [Division(World(rank, 2)) for rank in range(2)]
    assert [d.places(tasks) for d in divisions] == [[0, 2, 3], [1, 4]], "one player for a task that is listed twice"
    played = [[task.task_id.upper() for task in d.share(tasks)] for d in divisions]
    assert divisions[1].in_order(tasks, played) == list("ABCAB")
    first = [Division(World(rank, 2), "first") for rank in range(2)]
    assert [d.plays for d in first] == [True, False]
    assert first[0].share(tasks) == tasks and first[1].in_order(tasks, [list("ABCAB")]) == list("ABCAB")


def test_alone_nothing_is_told_to_anybody() -> None:
    def fail() -> None:
        raise ValueError("mine")

    assert ALONE.each(lambda: 3) == [3] and ALONE.only_first(lambda: 4) == 4 and ALONE.together(lambda: 5) == 5
    assert ALONE.gather("x") == ["x"] and ALONE.any(True) and not ALONE.any(False)
    for call in (ALONE.each, ALONE.only_first, ALONE.together):
        with pytest.raises(ValueError, match="mine"):
            call(fail)
    assert not torch.distributed.is_initialized()


def test_a_failure_on_one_process_is_raised_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process in turn, with what the others would have told it."""

    def work(rank: int, failing: int | None, stopping: int | None = None) -> int:
        if rank == failing:
            raise KeyError("no such thing")
        if rank == stopping:
            raise StoppedRun
        return rank

    def outcomes(**how: Any) -> list[Any]:
        told: list[Any] = [None] * 3

        def gather(world: World, thing: Any) -> list[Any]:
            told[world.rank] = pickle.loads(pickle.dumps(thing))  # as it travels
            return [thing if other is None else other for other in told]

        found: list[Any] = []
        for _ in range(2):  # the first round only fills in what is told
            found = []
            for rank in range(3):
                with monkeypatch.context() as patch:
                    patch.setattr(World, "gather", gather)
                    try:
                        found.append(World(rank, 3).each(partial(work, rank, **how)))
                    except (Exception, StoppedRun) as error:
                        found.append(error)
        return found

    assert outcomes(failing=None) == [[0, 1, 2]] * 3
    first, *others = outcomes(failing=0)
    assert type(first) is KeyError, "the first process says what happened to it"
    assert all(type(error) is ProcessError and "process 0: 'no such thing'" in str(error) for error in others)
    for error in outcomes(failing=2):
        assert type(error) is ProcessError and str(error) == "process 2: 'no such thing'"
    assert {type(error) for error in outcomes(failing=None, stopping=1)} == {StoppedRun}


def test_processes_of_a_machine_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines, of two processes and of three: at any time one process of each is at work."""
    places = [0, 1, 0, 1, 2]
    waits: list[int] = []
    turns: list[tuple[int, int]] = []

    def together(world: World, function: Any) -> Any:
        waits.append(world.rank)
        return function()

    monkeypatch.setattr(World, "gather", lambda self, thing: places)
    monkeypatch.setattr(World, "together", together)
    for rank, place in enumerate(places):

        def work(rank: int = rank) -> int:
            turns.append((rank, waits.count(rank)))
            return 10 * rank

        assert World(rank, 5, place).in_turn(work) == 10 * rank
        assert waits.count(rank) == 3, "as often as the machine with most processes has turns"
    assert turns == [(0, 1), (1, 2), (2, 1), (3, 2), (4, 3)]
    assert ALONE.in_turn(lambda: 3) == 3


def test_all_continue_from_the_checkpoint_that_the_first_process_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that sees a newer one too, as on folders that machines share, or none, does not go on by itself."""
    for step in (1, 2):
        save(tmp_path, Checkpoint(Progress(2, step), {"w": torch.zeros(1)}, {}), keep=9)
    found = newest(tmp_path, ALONE)
    assert found is not None and found.progress.step == 2
    told: list[Any] = ["2-0000001", None]
    monkeypatch.setattr(World, "only_first", lambda self, function: told.pop(0))
    monkeypatch.setattr(World, "together", lambda self, function: function())
    found = newest(tmp_path, World(1, 2))
    assert found is not None and found.progress.step == 1
    assert newest(tmp_path, World(1, 2)) is None


def test_parity_is_that_of_the_worst_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "largest", lambda self, value: torch.stack([value, torch.tensor(0.2)]).max())
    now = torch.zeros(2)
    with pytest.raises(Exception, match=r"0\.2 nats"):
        parity(now, now, None, PARITY, World(0, 2))
    none = torch.zeros(2, dtype=torch.bool)
    assert parity(now, now, none, 0.5, World(0, 2))["parity_error"] == pytest.approx(0.2), "another has some to compare"
