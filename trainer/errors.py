"""Errors of the trainer room. Every message says what to do next."""

from aem_agent.types import AgentError


class TrainerError(AgentError):
    """Base of all errors about training runs."""


class CheckpointError(TrainerError):
    """A checkpoint cannot be written or read."""


class RecipeError(TrainerError):
    """A recipe cannot be found or is not one."""


class NonFiniteError(TrainerError):
    """A loss, gradient or log-prob became NaN or infinite; the message says where."""


class MetricError(TrainerError):
    """A figure of a step that is no number; an estimator's, loss's or filter's of one's own may have given it."""


class ParityError(TrainerError):
    """Sampler and trainer give different log-probs for the same weights and tokens."""


class DemonstrationError(TrainerError):
    """Nothing can be cloned from the demonstrations."""
