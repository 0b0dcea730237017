"""`trainer.aem` for those who have a trainer of their own: it needs torch, and nothing else of what is installed."""

import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
allowed = set(sys.argv[1].split(",")) | sys.stdlib_module_names | {"trainer"}

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"{name} is not here", name=name)

sys.meta_path.insert(0, Nothing())
for name in ("numpy", "aem_envs", "transformers"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} should not be here")

import torch
from trainer.aem import mean_token_entropy, modulate

uncertainty = mean_token_entropy(torch.tensor([1.0, 3.0, 0.0]), torch.tensor([0, 0, 1]), 2)
found = modulate(torch.tensor([1.0, -1.0]), uncertainty, torch.tensor([0, 0]))
assert uncertainty.tolist() == [2.0, 0.0]
low, high = 1.0, 2.718281828459045 ** -1
mean = (low + high) / 2
assert torch.allclose(found.advantages, torch.tensor([high / mean, -low / mean])), found
ours = {name for name in sys.modules if name.partition(".")[0] == "trainer"}
assert ours == {"trainer", "trainer.aem", "trainer.tensors"}, ours
"""


def torch_and_what_it_requires() -> set[str]:
    """Import names of torch and of what its distribution cannot do without."""
    names = {"torch"}
    todo = ["torch"]
    while todo:
        for line in requires(todo.pop()) or []:
            name = re.split(r"[ ;<>=!~\[(]", line)[0].lower().replace("_", "-")
            if "extra ==" not in line and name not in names and not name.startswith(("nvidia", "cuda", "triton")):
                names.add(name)
                todo.append(name)
    found = packages_distributions().items()
    return {module for module, given in found if names & {one.lower().replace("_", "-") for one in given}}


def test_aem_needs_torch_alone() -> None:
    allowed = torch_and_what_it_requires()
    assert "torch" in allowed and not allowed & {"numpy", "transformers", "gymnasium"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, ",".join(sorted(allowed))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
