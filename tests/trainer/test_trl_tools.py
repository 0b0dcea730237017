"""Our environments as tools inside the real TRL: `ToolEnv` as its `environment_factory`."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aem_agent.adapters.tool_env import BROKEN, OVER, ToolEnv
from aem_agent.model.presets import make_preset, preset
from aem_envs.core import InfrastructureError


@pytest.fixture(scope="module")
def trl() -> Any:
    pytest.importorskip("trl")
    torch.set_num_threads(1)
    return importlib.import_module("trl_runs")


CALL = '{"name": "act", "arguments": {"action": "%s"}}'


def played(trl: Any, out: Path, factory: Callable[[], ToolEnv]) -> Any:
    """One step of the real loop with Qwen3's template; a script says what the model samples. Odd rows win."""

    class Scripted(trl.Modulated):
        def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
            said = []
            for row, ids in enumerate(prompt_ids):
                played = self.processing_class.decode(ids).count("<tool_response>")
                action = ("go east", f"open {'red' if row % 2 else 'blue'} chest", None)[played]
                text = f"<tool_call>\n{CALL % action}\n</tool_call>" if action else "Done."
                said.append(self.processing_class.encode(f"{text}<|im_end|>", add_special_tokens=False))
            return said, None

    rows = [{"prompt": [{"role": "user", "content": "Play. "}], "task_id": "rooms3-start2-red"}] * 2
    sizes = {"per_device_train_batch_size": 4, "steps_per_generation": 1, "max_completion_length": 400, "max_steps": 1}
    trainer = trl.made(
        Scripted,
        chat_model(out / "model"),
        out,
        options=sizes,
        train_dataset=importlib.import_module("datasets").Dataset.from_list(rows),
        reward_funcs=None,
        environment_factory=factory,
    )
    trainer.train()
    return trainer


def signs(batch: dict[str, Tensor]) -> list[set[float]]:
    """Those of the advantages of each row's own tokens."""
    mask = (batch["completion_mask"] * batch["tool_mask"]).bool()
    return [set(batch["advantages"][row].sign()[mask[row]].tolist()) for row in range(len(mask))]


@pytest.mark.slow
def test_trl_plays_through_tool_calls(trl: Any, tmp_path: Path) -> None:
    trainer = played(trl, tmp_path, lambda: ToolEnv("aem/Toy-v0"))
    (batch,) = trainer.batches
    assert trainer.state.log_history[0]["rewards/ToolEnv/mean"] == 0.5
    assert signs(batch) == [{-1.0}, {1.0}] * 2
    given = (batch["completion_mask"] * (1 - batch["tool_mask"])).bool()
    seen = trainer.processing_class.decode(batch["completion_ids"][1][given[1]])
    assert "You are in room 3 of 3." in seen and f"You open the red chest.\n{OVER}" in seen
    assert "tool_call>" not in seen
    assert "open the red chest" in trainer.processing_class.decode(batch["prompt_ids"][0])


@pytest.mark.slow
def test_trl_goes_on_without_an_environment_that_died(
    trl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools: list[ToolEnv] = []

    def dead(**_: Any) -> Any:
        raise InfrastructureError("the browser died")

    def factory() -> ToolEnv:
        tools.append(ToolEnv("aem/Toy-v0"))
        if len(tools) == 2:
            monkeypatch.setattr(tools[-1]._env, "reset", dead)
        return tools[-1]

    trainer = played(trl, tmp_path, factory)
    (batch,) = trainer.batches
    assert trainer.state.log_history[0]["rewards/ToolEnv/mean"] == pytest.approx(1 / 3)
    assert signs(batch) == [{-1.0}, {0.0}, {-1.0}, {1.0}]
    assert f"{BROKEN}\n{OVER}" in trainer.processing_class.decode(batch["prompt_ids"][1])


def chat_model(folder: Path) -> Path:
    """A made model whose tokenizer has Qwen3's chat template."""
    template = (Path(str(importlib.import_module("trl").__file__)).parent / "chat_templates/qwen3.jinja").read_text()
    marks = " <|im_start|> <|im_end|> <tool_call> </tool_call> <tool_response> </tool_response>"
    sizes = {"hidden_size": 32, "layers": 2, "heads": 2, "kv_heads": 2, "head_dim": 16, "ffn": 64, "vocab_size": 400}
    make_preset(preset("small", init_std=0.3, **sizes), folder, 0, [template + marks])
    settings = folder / "tokenizer_config.json"
    found = json.loads(settings.read_text()) | {"chat_template": template}
    settings.write_text(json.dumps(found))
    return folder
