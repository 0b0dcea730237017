"""Token in, token out with the real vLLM, over ten turns."""

from pathlib import Path
from typing import Any

import pytest
from tito import assert_token_in_token_out
from vllm_help import moved, run

from aem_agent.types import Sampling

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_ten_turns(vllm_engine: Any, vllm_folder: Path, temperature: float) -> None:
    model = moved(vllm_folder, 11)
    run(vllm_engine.load_weights(model))
    sampling = Sampling(temperature=temperature, max_new_tokens=12)
    assert_token_in_token_out(vllm_engine, model, vllm_engine.tokenizer, tolerance=1e-4, sampling=sampling)
