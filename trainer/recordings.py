"""`episodes/step-NNNNNN.jsonl`: some of the episodes that an RL step trained on, with what training made of each turn.

`metrics.episodes_every` says how often. They are ordinary records; each turn's `info["training"]` holds `entropy` (mean
over the response's tokens, nats), `advantage` (before AEM), `applied` (what the loss saw) and, with AEM, `alpha`.
`aem-eval view RUN` shows them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from torch import Tensor

from aem_agent.files import own_folder
from aem_agent.records import RecordWriteError, dump_line
from aem_agent.run_folder import write_atomically
from aem_agent.types import Episode, RolloutGroup
from trainer.aem import Modulation, mean_token_entropy
from trainer.batch import Batch, completed
from trainer.tensors import segment_mean

if TYPE_CHECKING:
    from trainer.scoring import Scores
    from trainer.session import Session


def record_episodes(
    session: "Session",
    step: int,
    groups: Sequence[RolloutGroup],
    batch: Batch,
    scores: "Scores",
    advantages: Tensor,
    modulation: Modulation,
) -> None:
    """Write the episodes of RL step `step` (from 0) if it is due; of several processes the first one does.

    `advantages` and those of `modulation` are [R], or [N] per token. Nothing of the training depends on this. A file
    that is there already, of a step that is done again, is replaced.

    Raises:
        RecordWriteError: the disk is full or refuses.
    """
    config = session.config.metrics
    if not config.episodes_every or (step + 1) % config.episodes_every or not session.world.first:
        return
    with session.clock("record"):
        said = turn_figures(batch, scores.entropies, advantages, modulation, alpha=session.config.aem.enabled)
        lines = map(dump_line, annotated(groups, {k: v.tolist() for k, v in said.items()}, config.episodes_groups))
        try:
            folder = own_folder(session.folder.path, "episodes")
        except OSError as error:
            raise RecordWriteError(f"cannot make the folder {error.filename}: {error.strerror}") from error
        write_atomically(folder / f"step-{step + 1:06}.jsonl", b"".join(lines))


def turn_figures(
    batch: Batch, entropies: Tensor, advantages: Tensor, modulation: Modulation, *, alpha: bool
) -> dict[str, Tensor]:
    """What `info["training"]` gets, [R] each: H̄ = (1/L) Σ_k H_k in nats; A and α·A, of advantages per token their mean
    over the response's tokens; α where asked for.

    entropies: [N]. advantages: [R] or [N]; those of `modulation` alike.
    """

    def of_response(values: Tensor) -> Tensor:
        per_token = len(values) == len(batch.targets) != batch.n_responses
        return segment_mean(values, batch.span_index, batch.n_responses) if per_token else values

    found = {
        "entropy": mean_token_entropy(entropies, batch.span_index, batch.n_responses),
        "advantage": of_response(advantages),
        "applied": of_response(modulation.advantages),
    }
    found |= {"alpha": modulation.alpha} if alpha else {}
    return {name: value.detach().float() for name, value in found.items()}


def annotated(groups: Sequence[RolloutGroup], figures: Mapping[str, Sequence[float]], limit: int) -> Iterator[Episode]:
    """The episodes of the first `limit` groups; each turn of those that were trained on with its figures.

    A batch holds the responses of the completed episodes of all groups in order, so they are counted off here as there.
    """
    place = 0
    for group in islice(groups, limit):
        trained = completed(group)
        for episode in trained:
            turns = []
            for turn in episode.turns:
                said = {name: round(values[place], 6) for name, values in figures.items()}
                turns.append(replace(turn, info={**turn.info, "training": said}))
                place += 1
            yield replace(episode, turns=tuple(turns))
        known = {id(episode) for episode in trained}
        yield from (e for e in (*group.episodes, *group.errored) if id(e) not in known)
