"""What a GPU is used for: a 1.5B model's update, scoring, head and decoding against what the device could do.

    python bench/gpu.py [--small] [--device cuda] [--only passes head decode step] [--out FILE]

Made for one H200 with 141 GB, where it takes under 10 minutes. The architecture is Qwen2.5-1.5B's (28 layers, width
1,536, vocabulary 151,936, tied head) with random weights in bfloat16 (float32 master weights, by FSDP2 in one process),
in a training run as the recipes for one GPU make it: policy, update, scoring, engine and loop are the trainer's own.

    passes   4 micro-batches of 16 sequences of 2,048 tokens, none of which begin alike, the last quarter of each its
             response: one update with its optimiser step, and one scoring pass. MFU counts matrix products and causal
             attention, not what is computed twice (`trainer.flops`), against the dense bfloat16 peak of the device
    head     linear layer, log-softmax and entropy, fused and one after the other, forward and backward, for 8,192
             tokens: the most memory held at once, and time. The plain one's entropies have no gradient
    decode   steps of the own sampler, 128 rows of about 1,000 tokens, log-probs and entropies recorded, against the
             time to read all weights, keys and values once at the bandwidth that a copy has; also as a share of the
             data sheet's bandwidth, which, unlike MFU's peak, the bound is not taken from
    step     RL steps with 16 × 8 embedded ALFWorld episodes of 8 turns and 32 tokens each, with AEM and without: the
             share of each phase. Entropies are recorded in both, only `modulate` differs: what AEM costs in all is
             `aem_step.py`'s to say. Weights are random and answers garbage

Wanted: update ≥ 45 % MFU, scoring ≥ 55 %, head ≤ 25 % of the memory, decode ≥ 60 % of the bound. Missed, or with a
part broken, the status is 1. Decode is expected to miss: the sampler launches some 450 kernels a step one by one, which
takes about 4 ms (an estimate; CUDA graphs would be the cure), against a bound of about 1.7 ms. Where memory does not
suffice for all activations, or with `--recompute`, layers are computed again in the backward pass, which counts for
nothing. Figures are written after each part. Without a GPU, or with `--small`, all of it runs at a
small size, to see that it runs: these are no figures of a GPU, and nothing is judged.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _results import FOLDER, add_out, save

PARTS = ("passes", "head", "decode", "step")

GOALS: dict[str, tuple[str, str, bool, float]] = {
    "update MFU": ("passes", "update_mfu", True, 0.45),
    "scoring MFU": ("passes", "scoring_mfu", True, 0.55),
    "fused head's memory": ("head", "memory_ratio", False, 0.25),
    "decode, of the bound": ("decode", "share_of_bound", True, 0.60),
}
"""What is wanted: part, figure, whether more is better, limit."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a small size, judged by nothing; always without a GPU")
    parser.add_argument("--device", help="torch device; default: cuda where there is one, else cpu")
    parser.add_argument("--recompute", action="store_true", help="checkpoint activations, whatever there is of memory")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    add_out(parser, "gpu")
    return parser.parse_args()


def measured(only: list[str], small: bool, name: str, recompute: bool, out: Path) -> dict[str, Any]:
    """Figures of the parts, in `out` after each; one that breaks says why, and the others go on if they can."""
    import torch
    from _gpu_model import FULL, SMALL, Watch, opened
    from _gpu_parts import decode, head, passes, steps

    from trainer.flops import peak_flops

    size, device = SMALL if small else FULL, torch.device(name)
    on_gpu, watch = device.type == "cuda", Watch(device)
    peak = peak_flops(watch.name)
    found: dict[str, Any] = {
        "device": watch.name,
        "torch": torch.__version__,
        "small": small,
        "peak_flops": peak,
        "parts": {},
    }

    def part(named: str, work: Callable[[], dict[str, Any]]) -> None:
        if named not in only:
            return
        start = time.perf_counter()
        try:
            if on_gpu:
                torch.cuda.empty_cache()
            found["parts"][named] = work()
        except Exception as error:
            found["parts"][named] = broken(error)
        save(out, found)
        print(f"{named}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)

    part("head", lambda: head(size, watch, torch.bfloat16 if on_gpu else torch.float32))
    rest = [named for named in PARTS if named in only and named != "head"]
    try:
        with tempfile.TemporaryDirectory(prefix="aem-bench-") as folder:
            if rest:
                with opened(size, Path(folder), name, recompute) as session:
                    part("decode", lambda: decode(session, size, watch))
                    part("passes", lambda: passes(session, size, watch, peak))
                    part("step", lambda: steps(session, size, watch))
    except Exception as error:
        said = broken(error)
        left = [named for named in rest if named not in found["parts"]]
        found["parts"] |= dict.fromkeys(left or ["closing"], said)
    return found


def broken(error: Exception) -> dict[str, Any]:
    """What stands in place of a part's figures."""
    traceback.print_exception(error)
    return {"broken": f"{type(error).__name__}: {error}"}


def table(found: dict[str, Any], judged: bool) -> bool:
    """Print what was found; completes it with verdicts. Whether nothing broke and, where it is judged, all is met."""
    parts, well = found["parts"], True
    print(f"{found['device']}, torch {found['torch']}{'' if judged else ': a small size, NO GPU FIGURES'}")
    for name, figures in parts.items():
        if "broken" in figures:
            print(f"{name:8} BROKEN: {figures['broken'][:200]}")
            well = False
            continue
        for key, value in figures.items():
            if not isinstance(value, dict):
                print(f"{name:8} {key:28} {number(value)}")
    for kind, figures in parts.get("step", {}).items():
        if isinstance(figures, dict):
            shares = ", ".join(f"{phase} {share:.1%}" for phase, share in figures["phase_shares"].items())
            print(f"step     {kind + ':':11} {figures['seconds']:.2f} s: {shares}")
    found["goals"] = {}
    for name, (part, key, more, limit) in GOALS.items() if judged else ():
        value = parts.get(part, {}).get(key)
        if part in parts:
            met = value is not None and (value >= limit if more else value <= limit)
            found["goals"][name] = {"value": value, "limit": limit, "met": met}
            verdict = "met" if met else "MISSED"
            print(f"{name}: {'–' if value is None else f'{value:.1%}'}, wanted {'≥≤'[not more]} {limit:.0%}: {verdict}")
            well = well and met
    return well


def number(value: Any) -> str:
    """A figure of the table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else f"{value:,}"


def main() -> int:
    """Print the table; exit status 1 where a part broke or a wanted figure was missed."""
    args = arguments()
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # read when CUDA is first used
    import torch

    torch.set_num_threads(1)
    name = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    small = args.small or not name.startswith("cuda")
    start = time.perf_counter()
    if small and args.out == FOLDER / "gpu.json":  # that one is for figures of a GPU
        args.out = FOLDER / "gpu.local.json"
    found = measured(args.only, small, name, args.recompute, args.out)
    well = table(found, judged=not small)
    found["seconds"] = time.perf_counter() - start
    print(f"{found['seconds']:.0f} s in all")
    save(args.out, found)
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
