"""Which extra of the distribution brings a package that is missing: what to tell whoever lacks it.

`pip install "aem-suite[train]"`, which messages advise, needs no index to have aem-suite: whoever reads one has it
installed, and pip takes that one and fetches the extra's packages alone.
"""

EXTRA_OF = {
    "torch": "train",
    "transformers": "train",
    "tokenizers": "train",
    "safetensors": "train",
    "peft": "train",
    "textworld": "alfworld",
    "alfworld": "alfworld",
    "selenium": "webshop",
    "PIL": "webshop",
    "textblob": "webshop",
    "swebench": "swebench",
    "docker": "swebench",
    "vllm": "vllm",
    "ray": "ray",
    "trl": "trl",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
}
"""Import name of a package that is in no core install → the extra in `pyproject.toml` that has it."""


def advice(error: BaseException) -> str | None:
    """What to install where `error` is the interpreter's own "No module named …" about a package of an extra."""
    if not isinstance(error, ModuleNotFoundError) or not str(error).startswith("No module named"):
        return None  # ours say it themselves, and a package that is there but broken is not helped by installing it
    package = (error.name or "").partition(".")[0]
    if package != error.name or package not in EXTRA_OF:
        return None
    return f'{package}, which this needs, is not installed: pip install "aem-suite[{EXTRA_OF[package]}]"'
