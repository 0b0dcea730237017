"""`webshop-grpo-1-5b` with Qwen2.5-7B-Instruct, the paper's larger model; the protocol changes nothing else.

    WEBSHOP_DATA=DIR aem-train run webshop-grpo-7b --set model.path=DIR/Qwen2.5-7B-Instruct

Ours: eight GPUs, over which weights, gradients and Adam's moments (122 GB in all) are spread, each with an engine that
plays two of the groups.
"""

from trainer.recipes._sizes import seven_b
from trainer.recipes.webshop_grpo_1_5b import recipe as smaller

recipe = seven_b(smaller, kv_cache_gib=6.0)
