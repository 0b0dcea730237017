"""A contender of `grpo_step.py` in a process of its own: a GRPO step per round, answered with its CPU seconds.

python bench/_grpo_contender.py trl|trl-aem|ours|ours-scoring|ours-distinct|ours-distinct-scoring UPDATES
"""

import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _grpo_ours import GROUPS, LR, NEW, PROMPT, SIZE, OurStep, model_folder, odd_share, prompt
from _rounds import refuse, serve


def ours(name: str, updates: int, room: Path) -> tuple[Callable[[], None], str]:
    """Ours; the name says what of it."""
    parts = name.split("-")
    step = OurStep(model_folder(room), scoring="scoring" in parts, distinct="distinct" in parts, updates=updates)
    parameters = sum(p.numel() for p in step.learner.model.parameters())
    return step, f"{parameters:,} parameters"


class Gate:
    """TRL's training runs in a thread that waits here after every GRPO step until another is asked for."""

    def __init__(self, updates: int) -> None:
        self.updates = updates
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.error: BaseException | None = None

    def start(self, trainer: Any) -> None:
        def work() -> None:
            try:
                self.go.acquire()
                trainer.train()
            except BaseException as error:
                self.error = error
            self.done.release()

        threading.Thread(target=work, daemon=True).start()

    def passed(self, update: int) -> None:
        """Called by the training after each optimiser step."""
        if update % self.updates == 0:
            self.done.release()
            self.go.acquire()

    def round(self) -> None:
        """One GRPO step. Raises what the training raised."""
        self.go.release()
        self.done.acquire()
        if self.error is not None:
            raise self.error


def trl(with_aem: bool, updates: int, room: Path) -> tuple[Callable[[], None], str]:
    """TRL's GRPOTrainer, or ours derived from it, over the same model, prompts and reward."""
    import datasets
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer, __version__

    from trainer.adapters.trl import AemGRPOTrainer

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    folder, rng, gate = model_folder(room), random.Random(0), Gate(updates)

    class Stops(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            gate.passed(state.global_step)

    args = GRPOConfig(
        output_dir=str(room / "out"),
        per_device_train_batch_size=GROUPS * SIZE // updates,
        steps_per_generation=updates,
        gradient_accumulation_steps=1,
        num_generations=SIZE,
        max_completion_length=NEW,
        learning_rate=LR,
        lr_scheduler_type="constant",
        max_steps=100_000,
        temperature=1.0,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = (AemGRPOTrainer if with_aem else GRPOTrainer)(
        model=AutoModelForCausalLM.from_pretrained(folder),
        reward_funcs=lambda completion_ids, **_: [odd_share(ids) for ids in completion_ids],
        args=args,
        processing_class=AutoTokenizer.from_pretrained(folder),
        train_dataset=datasets.Dataset.from_dict({"prompt": [" ".join(prompt(rng)) for _ in range(40 * GROUPS)]}),
        callbacks=[Stops()],
    )
    trainer.generation_config.eos_token_id = None  # nobody ends before the limit, as in ours
    trainer.eos_token_ids = [-1]
    watch(trainer)
    gate.start(trainer)
    return gate.round, f"TRL {__version__}, transformers {transformers.__version__}"


def watch(trainer: Any) -> None:
    """Look at the first batch: what is compared must be what was asked for."""
    score = trainer._generate_and_score_completions

    def first(inputs: Any) -> Any:
        batch = score(inputs)
        assert batch["prompt_ids"].shape == (GROUPS * SIZE, PROMPT) and bool(batch["prompt_mask"].all())
        assert batch["completion_ids"].shape == (GROUPS * SIZE, NEW) and bool(batch["completion_mask"].all())
        assert "old_per_token_logps" in batch, "TRL did not score the old log-probs"
        trainer._generate_and_score_completions = score
        return batch

    trainer._generate_and_score_completions = first


def main(name: str, updates: int) -> None:
    """Serve the contender of that name."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="aem-bench-") as folder:
        room = Path(folder)
        try:
            made = trl(name == "trl-aem", updates, room) if name.startswith("trl") else ours(name, updates, room)
        except ImportError as error:
            refuse(str(error))
            return
        serve(*made, clock=time.process_time)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
