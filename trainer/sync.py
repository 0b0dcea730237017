"""From the trainer's weights to the engine's."""

from aem_agent.model.interface import LanguageModel
from aem_agent.types import Running, TokenEngine, WeightParityError
from trainer.probe import probe


async def push(
    model: LanguageModel | None, engine: TokenEngine, *, running: Running = "wait", temperature: float | None = None
) -> int:
    """Hand the engine the newest weights and return its new version.

    Stale weights would go unnoticed, so they are looked for three times: the engine asserts that its log-probs are the
    trainer's; then a few tokens are drawn at `temperature` (that of the rollouts; None: none), and what is recorded of
    them is compared with the trainer's forward pass; and the first pass of every update compares what the present
    weights have sampled (`trainer.parity`), which with `rollout.staleness` may be nothing. An engine that has the
    trainer's own module copies nothing, and draws nothing.

    Raises:
        WeightParityError: the engine would sample from other weights than the trainer's.
        ParityError: it records other log-probs than the trainer's.
        BatchError: it draws token ids that the model does not have.
    """
    try:
        await engine.load_weights(model, running=running)
    except WeightParityError as error:
        raise WeightParityError(
            f"{error}. Nothing was sampled with these weights: resume from the last checkpoint, if it stays with "
            "rollout.engine=torch in a new run; engines have lost tied embeddings when weights were reloaded"
        ) from error
    if model is not None and temperature is not None and getattr(engine, "model", None) is not model:
        await probe(model, engine, temperature)
    return engine.version
