"""AEM in TRL's GRPOTrainer: `AemGRPOTrainer(…, aem=AemConfig())` where `GRPOTrainer(…)` was.

TRL makes a batch of completions, scores them, and stores one advantage per completion; this takes the advantages when
they are complete (scaled, so nothing comes after) and multiplies them by α. Old log-probs, KL and loss stay TRL's own.

- Entropies are those of the model that sampled, over the full vocabulary, at `args.temperature`. Where TRL scores old
  log-probs (`num_iterations` > 1, `steps_per_generation` > accumulation, vLLM) they come out of the same forward pass;
  else one pass without gradients is added. The reference model (`beta` > 0) is left alone.
- Groups are TRL's: `num_generations` completions of a prompt, over all processes.
- A response is an unbroken run of model tokens: the whole completion, or, where tools or a `rollout_func` put the
  environment's tokens between (`tool_mask`, `env_mask`), each stretch between them. Advantages are then per token.
- Completions that `mask_truncated_completions` takes out have no tokens left to TRL, and are not counted. Of a batch
  without others nothing is logged.
- Evaluation is untouched.

Written for TRL 1.16, whose methods it extends are not public: `AdapterError` says where another release lacks them.
"""

from typing import Any, cast

import torch
from torch import Tensor
from trl import GRPOTrainer

from aem_agent.seeds import episode_seed
from trainer.aem import modulate, uncertainty_of
from trainer.config import AemConfig
from trainer.errors import TrainerError

_HOOKS = ("_generate_and_score_completions", "_get_per_token_logps_and_entropies")
_PICTURES = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)
"""What TRL's batches hold of images, under the names that its forward pass takes."""


class AdapterError(TrainerError):
    """The other trainer is not as this adapter knows it."""


def responses(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The unbroken runs of true entries in each row of a bool [B, C], counted row after row.

    Returns int64 [N], the run of each of the N true entries, and int64 [R], the row of each run.
    """
    begins = mask.clone()
    begins[:, 1:] &= ~mask[:, :-1]
    return begins.flatten().cumsum(0)[mask.flatten()] - 1, begins.nonzero()[:, 0]


class AemMixin:
    """AEM for `GRPOTrainer` and classes derived from it: put it first, `class Mine(AemMixin, MyTrainer)`.

    aem: the settings of `trainer.config.AemConfig`; with `enabled=False` nothing is computed. With λ = 0 entropies are
    measured and the training is the plain one, bit for bit. Logged under `aem/…`: the statistics of `modulate`.

    Raises:
        AdapterError: this release of TRL has not the methods that are extended here.
    """

    def __init__(self, *args: Any, aem: AemConfig | None = None, **kwargs: Any) -> None:
        for name in _HOOKS:
            if not hasattr(super(), name):
                raise AdapterError(f"the trainer has no {name}: take TRL 1.16, or put the mixin before a GRPOTrainer")
        self.aem = aem or AemConfig()
        self._scored: list[tuple[Tensor, Tensor]] | None = None
        """Log-probs and entropies of the model's first pass over a batch being scored, if any; None at other times."""
        super().__init__(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """TRL's batch with modulated advantages: [B], or [B, C] in multi-turn batches."""
        trainer = cast(Any, self)
        above = cast(Any, super())._generate_and_score_completions
        if not (self.aem.enabled and trainer.model.training):
            return cast(dict[str, Any], above(inputs))
        self._scored = []
        try:
            batch = cast(dict[str, Any], above(inputs))
            # TRL scores old log-probs, if it needs any, before the reference, which with PEFT is the same module
            scored = self._scored[0] if "old_per_token_logps" in batch else self._score(batch)
        finally:
            self._scored = None
        batch["advantages"] = self._modulated(batch, *scored)
        return batch

    def _get_per_token_logps_and_entropies(
        self, model: Any, *args: Any, compute_entropy: bool = False, **kwargs: Any
    ) -> Any:
        """TRL's forward pass; the entropies of the model's first one over a batch are kept.

        The head of the model in training makes them always, that of a reference model cannot.
        """
        wanted = self._scored == [] and model is cast(Any, self).model
        above = cast(Any, super())._get_per_token_logps_and_entropies
        found = above(model, *args, compute_entropy=compute_entropy or wanted, **kwargs)
        if wanted:
            cast(list[Any], self._scored).append(found[:2])
        return found

    @torch.no_grad()
    def _score(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies [B, C] of the present weights, in evaluation mode: no dropout, no checkpointing."""
        trainer = cast(Any, self)
        trainer.model.eval()
        try:
            logprobs, entropies, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model,
                torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1),
                torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
                batch["completion_ids"].shape[1],
                batch_size=trainer.args.per_device_train_batch_size,
                compute_entropy=True,
                **{name: batch[name] for name in _PICTURES if name in batch},
            )
        finally:
            trainer.model.train()
        return logprobs, entropies

    def _modulated(self, batch: dict[str, Any], logprobs: Tensor, entropies: Tensor) -> Tensor:
        """The batch's advantages times α, which comes from the groups of all processes."""
        trainer, advantages = cast(Any, self), cast(Tensor, batch["advantages"])
        multi_turn = "tool_mask" in batch
        mask = (batch["completion_mask"] * batch["tool_mask"] if multi_turn else batch["completion_mask"]).bool()
        span, row = responses(mask)
        uncertainty = uncertainty_of(self.aem.proxy, logprobs[mask], entropies[mask], span, len(row))

        offset = trainer.accelerator.process_index * len(advantages)
        rows = self._everywhere(row + offset, -1)
        there = rows >= 0
        of = rows[there]
        if not len(of):
            return advantages
        all_advantages = self._everywhere(advantages[row], 0)
        options = self.aem.modulate_options
        modulation = modulate(
            all_advantages[there],
            self._everywhere(uncertainty, 0)[there],
            of // trainer.num_generations,
            trajectory=of,
            generator=self._generator(advantages.device),
            **options,
        )
        self._log_stats(modulation.stats)
        if options["lam"] == 0 and options["sign_mask"] is None:
            return advantages  # not even spread over tokens: sums of sequence-level ratios would round differently
        all_advantages[there] = modulation.advantages
        share = len(rows) // trainer.accelerator.num_processes
        mine = all_advantages[share * trainer.accelerator.process_index :][: len(row)]
        if not multi_turn:
            return advantages.index_copy(0, row, mine)
        return advantages.unsqueeze(1).expand(mask.shape).masked_scatter(mask, mine[span])

    def _everywhere(self, values: Tensor, pad: int) -> Tensor:
        """The entries [R] of all processes, one after the other, each padded to the longest."""
        accelerator = cast(Any, self).accelerator
        return cast(Tensor, accelerator.gather(accelerator.pad_across_processes(values, dim=0, pad_index=pad)))

    def _generator(self, device: torch.device) -> torch.Generator:
        """For shuffles: the same on all processes, another for each batch."""
        trainer = cast(Any, self)
        seed = episode_seed(trainer.args.seed, f"aem shuffle, update {trainer.state.global_step}", trainer._step)
        return torch.Generator(device=device).manual_seed(seed)

    def _log_stats(self, stats: dict[str, Tensor]) -> None:
        values = torch.stack([value.float() for value in stats.values()]).tolist()  # one wait for the device
        for name, value in zip(stats, values, strict=True):
            cast(Any, self)._metrics["train"][f"aem/{name}"].append(value)


class AemGRPOTrainer(AemMixin, GRPOTrainer):
    """TRL's `GRPOTrainer` with `aem=AemConfig(…)`; see the head of this module."""
