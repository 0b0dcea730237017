"""The paper's ALFWorld row DAPO + AEM with Qwen2.5-1.5B-Instruct: `alfworld-grpo-1-5b` with DAPO's settings.

    ALFWORLD_DATA=DIR aem-train run alfworld-dapo-1-5b --set model.path=DIR/Qwen2.5-1.5B-Instruct

DAPO's (arXiv 2503.14476): clip-higher (0.2 and 0.28), every token counts the same, no KL, and dynamic sampling: groups
of one outcome are replaced, by at most three times the groups of a step. `--set aem.enabled=false` is the baseline.
Ours: that bound, and no overlong shaping, since episodes are bounded by steps and responses by 512 tokens.
"""

from trainer.algorithms import use
from trainer.recipes._sizes import renamed
from trainer.recipes.alfworld_grpo_1_5b import recipe as grpo

recipe = renamed(use(grpo, "dapo"), "DAPO")
