"""How old the weights are that a batch was sampled with: counted in updates, and bounded.

A response records the version of the weights behind each of its tokens; `Batch.versions` holds the oldest one. With
`rollout.staleness` = S, the batch of a step may have been sampled up to S updates ago, and this is asserted here on
every batch, from what the engine recorded.
"""

from torch import Tensor

from trainer.batch import Batch
from trainer.errors import TrainerError


class StalenessError(TrainerError):
    """A batch was sampled by weights that are too old, or by none that there were."""


def staleness_metrics(batch: Batch, version: int, limit: int) -> dict[str, Tensor]:
    """Mean over responses, and maximum, of the updates since a response's oldest token was sampled.

    `version` is the engine's, that of the weights which are about to be updated.

    Raises:
        StalenessError: a response is older than `limit` updates, or says to be newer than `version`.
    """
    if batch.versions is None:
        return {}
    age = version - batch.versions
    oldest, youngest = int(age.max()), int(age.min())
    if oldest > limit or youngest < 0:
        raise StalenessError(
            f"a batch was sampled by weights of {oldest} to {youngest} updates ago, allowed are 0 to {limit} "
            "(rollout.staleness): the engine does not record `policy_versions` as it must, or something else than the "
            "run loads weights into it"
        )
    return {"staleness_mean": age.float().mean(), "staleness_max": age.max().float()}


def fresh_tokens(batch: Batch, version: int | None) -> Tensor | None:
    """bool [N], the response tokens whose whole response was sampled by weights `version`: only their log-probs can be
    compared with the present ones. None: all of them, as in synchronous runs, and where nobody says otherwise."""
    if version is None or batch.versions is None:
        return None
    fresh = batch.versions == version
    return None if bool(fresh.all()) else fresh[batch.span_index]
