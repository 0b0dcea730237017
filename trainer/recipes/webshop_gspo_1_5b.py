"""The paper's WebShop row GSPO + AEM with Qwen2.5-1.5B-Instruct: `webshop-grpo-1-5b` with GSPO's settings.

    WEBSHOP_DATA=DIR aem-train run webshop-gspo-1-5b --set model.path=DIR/Qwen2.5-1.5B-Instruct

GSPO's (arXiv 2507.18071): one probability ratio per sequence, clipped at 3e-4 and 4e-4, and a mean over sequences. Here
each turn is trained on as a sample of its own, and the sequence is one turn. `--set aem.enabled=false` is the baseline.
Ours: no KL, as the method's publication has none.
"""

from trainer.algorithms import use
from trainer.recipes._sizes import renamed
from trainer.recipes.webshop_grpo_1_5b import recipe as grpo

recipe = renamed(use(grpo, "gspo"), "GSPO")
