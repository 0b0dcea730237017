"""Run studies: every job that has no row in `studies/results` yet, several at a time.

    python studies/run.py primary                  all of it; the same command goes on after anything
    python studies/run.py primary --seeds 0-3      a part
    python studies/run.py primary --shard 2/4      every fourth seed, on one of four machines
    python studies/run.py --list                   what is there, and what is missing

Each job is a process with one thread. A job that was broken off goes on from its checkpoint, `kill -9` included.
"""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tables
from borrowing import borrow
from designs import STUDIES, Study
from job import START, STOPPED, start_folder
from rich.console import Console
from settings import fingerprint

HERE = Path(__file__).resolve().parent
GRACE = 120.0
"""Seconds for jobs to save after Ctrl-C."""


@dataclass(frozen=True)
class Job:
    """One run, or the warm start that the runs of a seed need."""

    study: Study
    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.study.name} {self.arm} {self.seed}"

    def ready(self, work: Path) -> bool:
        """Its warm start is there."""
        return self.arm == START or _started(self.study, self.seed, work)


def main() -> int:
    """The exit status: 0 when nothing is missing, 1 when jobs failed, 3 when some are left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "studies", nargs="*", metavar="STUDY", help=f"{', '.join(STUDIES)}; default: all, in this order"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (default: processors)")
    parser.add_argument("--seeds", type=_numbers, help="as 0-3 or 5; default: all that are registered")
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="this machine's share of the seeds")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no job after so long")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="run folders go here")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--list", action="store_true", help="only say what is done and what is missing")
    args = parser.parse_args()
    unknown = set(args.studies) - set(STUDIES)
    if unknown:
        parser.error(f"unknown study {', '.join(sorted(unknown))}; known: {', '.join(STUDIES)}")
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell began this in the background
        signal.signal(number, signal.default_int_handler)
    chosen = [STUDIES[name] for name in args.studies or STUDIES]
    if args.list:
        return _list(chosen)
    runner = Runner(args.jobs, args.work, args.device, args.minutes)
    with running(args.work):
        for study in chosen:  # one after the other: runs that two of them share are made once
            borrow(study, STUDIES.values())
            status = runner.run(missing(study, args.seeds, args.shard, args.work))
            if runner.interrupted:
                return status
    return runner.status


@contextmanager
def running(work: Path) -> Iterator[None]:
    """Nobody else runs studies with these folders meanwhile, and others can tell that results are growing."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".running").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"studies are running already in {work}: wait for them, or give another --work")
        yield


def missing(study: Study, seeds: Sequence[int] | None, shard: tuple[int, int], work: Path) -> list[Job]:
    """What has yet to run, seed by seed, so that pairs are complete early; a seed's warm start comes before its arms.

    Raises:
        SystemExit: results of other settings are there.
    """
    done = {(row["arm"], int(row["seed"])): row["settings"] for row in tables.read(study.name, "runs")}
    jobs: list[Job] = []
    for number, seed in enumerate(study.seeds):
        if number % shard[1] != shard[0] - 1 or (seeds is not None and seed not in seeds):
            continue
        arms = [arm for arm in study.arms if (arm, seed) not in done]
        for arm in set(study.arms) - set(arms):
            if done[arm, seed] != fingerprint(study, arm, seed):
                sys.exit(f"{study.name} {arm} {seed}: results of other settings are there: move them away first")
        if arms and not _started(study, seed, work):
            jobs.append(Job(study, START, seed))
        jobs += [Job(study, arm, seed) for arm in arms]
    return jobs


class Runner:
    """Keeps some jobs running until none is left."""

    def __init__(self, jobs: int, work: Path, device: str, minutes: float) -> None:
        self._jobs = jobs
        self._work = work
        self._device = device
        self._until = time.monotonic() + 60 * minutes
        self._running: dict[Job, subprocess.Popen[bytes]] = {}
        self._failed = self._left = 0
        self.interrupted = False
        self._say = Console().print

    @property
    def status(self) -> int:
        """The exit status of all that was run: 1 when jobs failed, 3 when some are left."""
        return 1 if self._failed else 3 if self._left else 0

    def run(self, todo: list[Job]) -> int:
        """Run what can be run; the exit status."""
        total, begun = len(todo), time.monotonic()
        try:
            while todo or self._running:
                if time.monotonic() < self._until:
                    self._fill(todo)
                elif not self._running:
                    break
                for job in self._ended():
                    left = len(todo) + len(self._running)
                    self._say(f"{(time.monotonic() - begun) / 60:6.1f} min  {job}  ({total - left} of {total})")
                if not self._running and not any(job.ready(self._work) for job in todo):
                    break
                time.sleep(0.5)
        except KeyboardInterrupt:
            self._say("interrupted: jobs save what they have; the same command goes on")
            self.interrupted = True
            todo += self._running
        finally:
            self._end()
        self._left += len(todo)
        return self.status

    def _fill(self, todo: list[Job]) -> None:
        while len(self._running) < self._jobs:
            job = next((job for job in todo if job.ready(self._work)), None)
            if job is None:
                return
            todo.remove(job)
            self._running[job] = self._start(job)

    def _start(self, job: Job) -> "subprocess.Popen[bytes]":
        log = self._work / "logs" / f"{str(job).replace(' ', '-')}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(HERE / "job.py"), job.study.name, job.arm, str(job.seed)]
        command += ["--work", str(self._work), "--device", self._device, "--parent", str(os.getpid())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with log.open("wb") as file:
            # a session of its own: Ctrl-C reaches it through us, once
            return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)

    def _ended(self) -> list[Job]:
        """Jobs that have ended since the last call; failures are shown with the end of their logs."""
        ended = [job for job, process in self._running.items() if process.poll() is not None]
        for job in ended:
            status = self._running.pop(job).returncode
            self._left += status == STOPPED
            if status not in (0, STOPPED):
                self._failed += 1
                log = self._work / "logs" / f"{str(job).replace(' ', '-')}.txt"
                self._say(f"{job} failed ({status}):\n{log.read_text('utf-8', 'replace')[-1500:]}", markup=False)
        return ended

    def _end(self) -> None:
        """Ask what runs to save and end; what does not is killed."""
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + GRACE
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                process.kill()
                process.wait()


def _started(study: Study, seed: int, work: Path) -> bool:
    return (start_folder(study, seed, work) / "done").exists()


def _list(studies: Sequence[Study]) -> int:
    left = 0
    for study in studies:
        done = {(row["arm"], int(row["seed"])) for row in tables.read(study.name, "runs")}
        wanted = {(arm, seed) for arm in study.arms for seed in study.seeds}
        left += len(wanted - done)
        print(f"{study.name:17} {len(wanted & done):4} of {len(wanted):4} runs  {study.question}")
    return 3 if left else 0


def _numbers(text: str) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    return tuple(range(int(first), int(last or first) + 1))


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not 1 <= int(number) <= int(count):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 1 ≤ I ≤ N")
    return int(number), int(count)


if __name__ == "__main__":
    sys.exit(main())
