"""The viewer on 10,000 episodes: building the page, and what a reader waits for in a real Chromium.

    python bench/viewer.py [--episodes 10000] [--rounds 5] [--keep DIR] [--out FILE]

Needs selenium, Chromium, chromedriver, and 1.5 GB for a while. Episodes are real ones of embedded ALFWorld tasks (half
a random policy, half an expert), played once and written under further task names until there are enough, with
thoughts, token ids, log-probs and entropies of lengths that language models have. Frames are those of headless
Chromium, drawn by the processor.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from _results import add_out, save

PLAYED = 100
"""Episodes that are really played, by each of the two policies."""

WORDS = (
    "I need to",
    "find",
    "where the object is",
    "so",
    "next",
    "look at each place",
    "then",
    "take it",
    "and carry on",
)

SCROLL = """
const done = arguments[arguments.length - 1], list = document.querySelector('.list');
const frames = [], end = list.scrollHeight - list.clientHeight, started = performance.now();
let last = started;
function frame(now) {
  frames.push(now - last);
  last = now;
  const share = (now - started) / 3000;
  list.scrollTop = share * end;
  if (share < 1) requestAnimationFrame(frame); else done(frames.slice(2));
}
requestAnimationFrame(frame);
"""
"""From top to bottom in three seconds: some 200 rows per frame. Answers the time between frames, ms."""

TYPE = """
const done = arguments[arguments.length - 1], input = document.querySelector('input[name=q]');
const started = performance.now();
input.value = arguments[0];
input.dispatchEvent(new Event('input'));
const worked = performance.now() - started;
requestAnimationFrame(() => setTimeout(() => done([worked, performance.now() - started]), 0));
"""
"""Milliseconds of the page's work at a key, and until the next frame was drawn."""

OPEN = """
const [number, where, done] = arguments, started = performance.now();
location.hash = `#episode=${number}`;
function look() {
  const shown = document.querySelector('.reader .where')?.textContent === where;
  if (shown) requestAnimationFrame(() => setTimeout(() => done(performance.now() - started), 0));
  else setTimeout(look, 0);
}
look();
"""
"""Milliseconds until the episode was drawn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5, help="times the page is opened (default 5)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the run and its page here")
    add_out(parser, "viewer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aem-bench-") as temporary:
        run = options.keep or Path(temporary) / "run"
        found = generate(run, options.episodes) if not (run / "episodes.jsonl").exists() else counted(run)
        found |= build(run)
        found |= browse(run / "view.html", options.episodes, options.rounds, Path(temporary))
    rows = {
        "episodes, turns in all": f"{found['episodes']:,}, {found['turns']:,}",
        "records on disk": f"{found['records_mb']:,.0f} MB",
        "page": f"{found['page_mb']:.1f} MB",
        "building it: wall, processor": f"{found['build_s']:.1f} s, {found['build_cpu_s']:.1f} s",
        "peak memory, and before a run is read": f"{found['build_peak_mb']:.0f} MB, {found['idle_mb']:.0f} MB",
        "opening it until the list shows": f"{found['first_list_s']:.2f} s",
        "until the whole file is read": f"{found['loaded_s']:.2f} s",
        "a key in the filter: work, until drawn": f"{found['filter_ms']:.0f} ms, {found['filter_drawn_ms']:.0f} ms",
        "opening an episode, first look": f"{found['open_ms']:.0f} ms",
        "frames while scrolling: median, longest": f"{found['frame_ms']:.0f} ms, {found['longest_frame_ms']:.0f} ms",
        "memory of the page's scripts": f"{found['heap_mb']:.0f} MB",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")
    save(options.out, {name: round(value, 3) for name, value in found.items()})


def generate(run: Path, count: int) -> dict[str, Any]:
    """A run folder with `count` episodes."""
    from aem_agent.records import dump_line, read_episodes
    from aem_agent.run_folder import RunFolder

    played = []
    with tempfile.TemporaryDirectory(prefix="aem-bench-") as folder:
        for model in ("random", "expert-search"):
            out = Path(folder) / model
            command = ("run", "aem/ALFWorld-v0", "-m", model, "-n", str(PLAYED), "--out", str(out), "--json")
            subprocess.run([sys.executable, "-m", "aem_agent.cli", *command], check=True, stdout=subprocess.DEVNULL)
            played.append(list(read_episodes(out / "episodes.jsonl")))
    pairs = [episode for both in zip(*played, strict=True) for episode in both]
    config = {
        "env_id": "aem/ALFWorld-v0",
        "split": "valid_seen",
        "model": "both",
        "tasks": count // 2,
        "repeats": 2,
        "env": {},
    }
    folder_of_run = RunFolder.create(run, config)
    with folder_of_run.episodes_path.open("wb") as file:
        for i in range(count):
            file.write(dump_line(spoken(pairs[i % len(pairs)], i)))
    return counted(run)


def spoken(episode: Any, i: int) -> Any:
    """The episode under another name, with responses as a language model gives them."""
    from aem_agent.types import Response

    rng = random.Random(i)

    def said(action: str) -> Response:
        thought = " ".join(rng.choices(WORDS, k=rng.randint(6, 24)))
        ids = tuple(rng.randrange(150_000) for _ in range(rng.randint(25, 80)))
        logprobs, entropies = (tuple(-rng.expovariate(2) * sign for _ in ids) for sign in (1, -1))
        return Response(f"<think>{thought}</think><action>{action}</action>", ids, logprobs, entropies)

    turns = tuple(replace(t, response=said(t.action), prompt_token_ids=tuple(range(400))) for t in episode.turns)
    return replace(episode, task_id=f"task-{i // 2:05}", repeat=i % 2, turns=turns)


def counted(run: Path) -> dict[str, Any]:
    """How much there is."""
    episodes = turns = 0
    with (run / "episodes.jsonl").open("rb") as lines:
        for line in lines:
            episodes += 1
            turns += line.count(b'"observation":')
    return {"episodes": episodes, "turns": turns, "records_mb": (run / "episodes.jsonl").stat().st_size / 1e6}


def build(run: Path) -> dict[str, Any]:
    """`aem-eval view --no-browser` in a process of its own."""
    command = [sys.executable, "-m", "aem_agent.cli", "view", str(run), "--no-browser"]
    started = time.perf_counter()
    peak, cpu = used_by(command)
    seconds = time.perf_counter() - started
    idle, _ = used_by([sys.executable, "-c", "import aem_agent.eval_commands"])
    size = (run / "view.html").stat().st_size / 1e6
    return {"build_s": seconds, "build_cpu_s": cpu, "build_peak_mb": peak, "idle_mb": idle, "page_mb": size}


def used_by(command: list[str]) -> tuple[float, float]:
    """Runs it; its largest resident memory, MB, and the seconds that a processor worked for it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3), used.ru_utime + used.ru_stime


def browse(page: Path, episodes: int, rounds: int, temporary: Path) -> dict[str, Any]:
    """What a reader waits for; medians over rounds, of frames also the longest of all."""
    from aem_envs.webshop.browser.process import Browser, find_browser

    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None
    browser = Browser(find_browser(None, None, True, (1280, 800), 120.0))
    try:
        measured = [one_round(browser.driver, page, episodes, seed) for seed in range(rounds)]
    finally:
        browser.close()
    frames = [frame for found in measured for frame in found.pop("frames")]
    medians = {name: statistics.median(found[name] for found in measured) for name in measured[0]}
    return medians | {"frame_ms": statistics.median(frames), "longest_frame_ms": max(frames), "rounds": rounds}


def one_round(driver: Any, page: Path, episodes: int, seed: int) -> dict[str, Any]:
    driver.get("about:blank")
    driver.get(page.resolve().as_uri())
    entry = wait_for(driver, "return performance.getEntriesByName('aem-list')[0]?.startTime")
    loaded = wait_for(driver, "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd || null")
    time.sleep(1)
    frames = driver.execute_async_script(SCROLL)
    typed = [driver.execute_async_script(TYPE, text) for text in ("t", "task-0", "task-012", "cup", "")]
    opened = []
    for number in random.Random(seed).sample(range(1, episodes + 1), 8):
        opened.append(driver.execute_async_script(OPEN, number, f"{number:,} of {episodes:,}"))
    heap = driver.execute_script("return performance.memory.usedJSHeapSize") / 1e6
    return {
        "first_list_s": entry / 1e3,
        "loaded_s": loaded / 1e3,
        "frames": frames,
        "filter_ms": statistics.median(work for work, _ in typed),
        "filter_drawn_ms": statistics.median(drawn for _, drawn in typed),
        "open_ms": statistics.median(opened),
        "heap_mb": heap,
    }


def wait_for(driver: Any, script: str) -> float:
    deadline = time.monotonic() + 120
    while (found := driver.execute_script(script)) is None:
        if time.monotonic() > deadline:
            raise SystemExit("the page did not come")
        time.sleep(0.05)
    return float(found)


if __name__ == "__main__":
    main()
