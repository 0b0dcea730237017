"""Token in, token out: every token engine made from a model folder, over ten turns."""

from pathlib import Path

import pytest
from tito import assert_token_in_token_out

from aem_agent.engines.torch_engine import TorchEngine
from aem_agent.model.interface import load_model
from aem_agent.model.presets import PresetConfig, make_preset
from aem_agent.types import Sampling
from aem_envs.toy import ToyEnv


@pytest.fixture(scope="module", params=["word", "byte-bpe"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    env = ToyEnv()
    texts = [env.reset(seed=seed)[0] for seed in range(20)]
    config = PresetConfig(tokenizer=request.param, vocab_size=512, init_std=0.1, max_positions=512, layers=2)
    return make_preset(config, tmp_path_factory.mktemp("model"), 0, texts)


@pytest.mark.parametrize("cache_bytes", [1 << 30, 0])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_torch(folder: Path, temperature: float, cache_bytes: int) -> None:
    engine = TorchEngine.load(folder, cache_bytes=cache_bytes)
    sampling = Sampling(temperature=temperature, max_new_tokens=12, entropies=True)
    model = load_model(folder)
    assert_token_in_token_out(engine, model, engine.tokenizer, tolerance=1e-5, sampling=sampling)
