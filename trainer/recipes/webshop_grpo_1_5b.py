"""The paper's WebShop row GRPO + AEM with Qwen2.5-1.5B-Instruct, on the official products and goals.

    WEBSHOP_DATA=DIR aem-train run webshop-grpo-1-5b --set model.path=DIR/Qwen2.5-1.5B-Instruct

The paper's (AEM, arXiv 2605.00425): the model, 16 groups of 8, 150 steps, success 10 and failure 0, invalid actions
−0.1, AEM with λ = 1 within the group. `--set aem.enabled=false` is its baseline, and nothing else differs.

The framework's that it builds on (verl-agent, as GiGPO's recipes have it, arXiv 2505.10978): Adam at 1e-6, mini-batches
of 64 responses, KL loss 0.01 to the first model (k3), 15 steps an episode, the last two turns shown, prompts of 4,096
and responses of 512 tokens, temperature 1 in training and 0.4 in evaluation, an evaluation every 5 steps.

Ours, since the papers' texts were not at hand: the penalty for invalid actions as a term of the step (docs/algorithms),
weight decay, the splits (goals 0–499 test, 500–1499 development: training sees neither, where the framework's overlap),
episodes in processes of their own, as a search of all products takes its time, and all of `scale` and `rollout.engine`.
Figures of the paper are the paper's; none were made here.
"""

from dataclasses import replace

from trainer.config import EnvConfig, EvaluationConfig, TrainConfig
from trainer.recipes.alfworld_grpo_1_5b import recipe as household

recipe: TrainConfig = replace(
    household,
    description="the paper's protocol on official WebShop: Qwen2.5-1.5B-Instruct, GRPO with AEM; a GPU",
    env=EnvConfig("aem/WebShop-v0", kwargs={"source": "official"}),
    rollout=replace(
        household.rollout,
        max_steps=15,
        rewards="success",
        engine_options={"max_model_len": 4608, "kv_cache_gib": 20.0},
        pool="processes",
    ),
    optimiser=replace(household.optimiser, minibatch_responses=64),
    evaluation=EvaluationConfig(
        split="test", tasks=500, every=5, interim_tasks=128, interim_split="dev", temperature=0.4, max_steps=15
    ),
)
