"""The paper's WebShop row DAPO + AEM with Qwen2.5-7B-Instruct: `webshop-grpo-7b` with DAPO's settings.

    WEBSHOP_DATA=DIR aem-train run webshop-dapo-7b --set model.path=DIR/Qwen2.5-7B-Instruct

DAPO's (arXiv 2503.14476): clip-higher (0.2 and 0.28), every token counts the same, no KL, and dynamic sampling: groups
of one outcome are replaced, by at most three times the groups of a step. `--set aem.enabled=false` is the baseline.
Ours: that bound, no overlong shaping, since episodes are bounded by steps and responses by 512 tokens, and one engine
on four of the eight GPUs, which plays all groups (each GPU has seven of the 28 heads).
"""

from trainer.algorithms import use
from trainer.recipes._sizes import first_plays, renamed
from trainer.recipes.webshop_grpo_7b import recipe as grpo

recipe = renamed(use(first_plays(grpo, tensor_parallel=4, kv_cache_gib=20.0), "dapo"), "DAPO")
