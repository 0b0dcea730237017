"""A few tokens from the engine after each weight update: what it records of them must be what the trainer computes."""

import torch

from aem_agent.model.interface import LanguageModel
from aem_agent.types import GenerateRequest, Response, Sampling, TokenEngine
from trainer.batch import BatchError, Packer
from trainer.parity import parity, parity_limit
from trainer.policy import Policy
from trainer.sampled import check_ids

PROMPT_TOKENS = 8
NEW_TOKENS = 4


async def probe(model: LanguageModel, engine: TokenEngine, temperature: float) -> None:
    """Draw a short response to a fixed prompt, and compare its log-probs with the trainer's forward pass.

    Engines that record none are not compared: theirs are computed anyway.

    Raises:
        ParityError: they differ by more than rounding.
        BatchError: token ids outside the vocabulary, or none.
    """
    limit = min(model.max_positions, getattr(engine, "max_positions", None) or model.max_positions)
    new = max(1, min(NEW_TOKENS, limit // 2))
    prompt = tuple((7 * place + 3) % model.vocab_size for place in range(max(1, min(PROMPT_TOKENS, limit - new))))
    sampling = Sampling(temperature=temperature, max_new_tokens=new)
    response = await engine.generate(GenerateRequest(prompt, sampling, seed=0))
    if not response.token_ids:
        raise BatchError("the engine answered a probe after a weight update without token ids: it cannot be trained on")
    check_ids(torch.tensor(response.token_ids), model.vocab_size)
    if response.logprobs is not None:
        _compare(model, engine, prompt, response, temperature)


@torch.no_grad()
def _compare(
    model: LanguageModel, engine: TokenEngine, prompt: tuple[int, ...], response: Response, temperature: float
) -> None:
    packer = Packer()
    packer.prompt(prompt, 0, join=False)
    packer.response(response.token_ids, 0, 0)
    batch = packer.batch().to(model.device)
    logprobs = Policy(model)(batch, temperature).logprobs
    recorded = torch.tensor(response.logprobs, dtype=torch.float32, device=logprobs.device)
    if len(recorded) != len(logprobs):
        raise BatchError(f"the engine recorded {len(recorded)} log-probs of {len(logprobs)} tokens")
    parity(logprobs, recorded, None, parity_limit(model, engine))
