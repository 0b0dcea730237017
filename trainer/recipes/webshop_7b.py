"""`webshop-1-5b` with a 7B instruct model: the published protocol changes nothing else.

    aem-train run webshop-7b --set model.path=DIR/Qwen2.5-7B-Instruct --set device=cuda

Weights, gradients and Adam's moments of 7B parameters take some 110 GB where all are in single precision; this trainer
keeps them on one device.
"""

from dataclasses import replace

from trainer.recipes.webshop_1_5b import recipe as smaller

recipe = replace(
    smaller,
    description="the paper's protocol on official WebShop: Qwen2.5-7B-Instruct, GRPO with AEM; a GPU, model.path",
    model=replace(smaller.model, path="Qwen2.5-7B-Instruct"),
    optimiser=replace(smaller.optimiser, micro_tokens=8192),
)
