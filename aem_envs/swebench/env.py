"""`aem/SWEBench-v0`: solve an issue in a repository by bash commands in a sandbox; swebench's own harness judges.

(Over 300 lines: one class, a third of it words on arguments and errors; what has a meaning of its own is elsewhere.)
"""

import base64
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from random import Random
from typing import Any, Literal, get_args

from aem_envs import snapshot
from aem_envs.actions import shown as shown_action
from aem_envs.core import BadOptionError, BadStateError, Capabilities, InfrastructureError, TextEnv, one_of
from aem_envs.info import NO_TIME, Seconds
from aem_envs.swebench import output
from aem_envs.swebench.actions import Command, Edit, Submit, read
from aem_envs.swebench.blind import blind_command
from aem_envs.swebench.grading import Grade, grade
from aem_envs.swebench.rooms import RoomMaker
from aem_envs.swebench.sandbox.api import Limits, PatchTooLargeError, Sandbox, SandboxError, SandboxMissingError
from aem_envs.swebench.sources import SourceName, open_tasks
from aem_envs.swebench.task import Task
from aem_envs.swebench.workplace import Acted, OpenRooms, Workplace, refused, works

_FORMAT = "aem/SWEBench-v0"
_FIELDS: dict[str, type] = {
    "task_id": str,
    "data_hash": str,
    "seed": int,
    "rng": list,
    "steps": int,
    "running": bool,
    "anchor": str,
    "patch": str,
}


class SWEBenchEnv(TextEnv):
    """Solve an issue in a repository. Reward 1 if the tests that tell pass after `submit`, once; else 0.

    An action is one bash command (`bash -c` in the repository: no state but files), an edit (see
    `aem_envs.swebench.actions`), or `submit`. The patch is what changed in the repository; changes of tests do not
    count. It is graded in a fresh sandbox by swebench. At the step limit what changed so far is graded.

    Keyword arguments:
        source: "embedded" (mutations of small packages; default) or "official" (rows of a file).
        split: embedded: "train" (default), "dev", "test"; official: "train" for R2E-Gym, SWE-Gym and SWE-smith, else
            "test".
        data: Official: the file of rows (JSON, JSONL, parquet); default `$SWEBENCH_DATA`.
        specs: Official: file with what rows of swebench 4.x lack.
        namespace: Official: prefix of prebuilt images.
        image: Official: one image for all rows, instead of their own; "{instance_id}" in it is replaced.
        sandbox: "local", "docker", or a kind of your own; default local for embedded tasks, docker for official ones.
        allow_unsafe: The local sandbox may run without isolation where the machine has none (False).
        max_steps: Actions per episode (100).
        command_timeout, grade_timeout: Seconds for a command (60), and for the tests (300).
        at_limit: "grade" (default) or "fail" what is there at the step limit.
        memory_mb, cpus, pids, disk_mb: What an episode may use (1024, 1.0, 256, 512).
        train_on_evaluation: Let evaluation sets such as Verified be trained on (False).
        cache: Folder of prepared repositories; default `$AEM_CACHE`, else the user's cache folder.
        render_mode: "ansi", "human" or "html".

    `info["details"]` says `isolation` and a command's `exit_code`; at the end `verdict`, `fail_to_pass` and
    `pass_to_pass` (shares of tests), `dropped` (changed files that did not count) and `model_patch`.
    `info["seconds"]`: `start`, `commands`, `diff`, `grading`, `tests`. Truncated also with `sandbox_died`: a command
    took the sandbox with it. Where something breaks and a fresh room works, what was done in the room is at fault:
    `sandbox_died`, or the verdict `patch_unreadable` or `sandbox_broke`; else it is `infra:…`.
    """

    capabilities = Capabilities(snapshot=True, deepcopy=True, blocking=True)
    splits: tuple[str, ...] = ("train", "dev", "test")

    def __init__(
        self,
        *,
        source: SourceName = "embedded",
        split: str | None = None,
        data: str | None = None,
        specs: str | None = None,
        namespace: str | None = None,
        image: str | None = None,
        sandbox: str | None = None,
        allow_unsafe: bool = False,
        max_steps: int = 100,
        command_timeout: float = 60.0,
        grade_timeout: float = 300.0,
        at_limit: Literal["grade", "fail"] = "grade",
        memory_mb: int = 1024,
        cpus: float = 1.0,
        pids: int = 256,
        disk_mb: int = 512,
        train_on_evaluation: bool = False,
        cache: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        one_of("source", source, get_args(SourceName))
        one_of("at_limit", at_limit, ("grade", "fail"))
        for name, value in (("command_timeout", command_timeout), ("grade_timeout", grade_timeout), ("cpus", cpus)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
                raise BadOptionError(f"{name} is a number above 0, not {value!r}")
        for name, value, least in (("memory_mb", memory_mb, 64), ("pids", pids, 8), ("disk_mb", disk_mb, 16)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise BadOptionError(f"{name} is a number from {least}, not {value!r}")
        self._opened = source, data, specs, namespace, image
        self._tasks = open_tasks(*self._opened)
        self.splits = self._tasks.splits
        super().__init__(split=split, max_steps=max_steps, render_mode=render_mode)
        self._limits = Limits(memory_mb, float(cpus), pids, disk_mb)
        self._times = float(command_timeout), float(grade_timeout)
        self._at_limit, self._train_on_evaluation = at_limit, bool(train_on_evaluation)
        kind = sandbox or ("local" if source == "embedded" else "docker")
        self._rooms = RoomMaker(source, kind, self._limits, cache, bool(allow_unsafe))
        self._open_rooms = OpenRooms()
        self._task: Task | None = None
        self._place: Workplace | None = None
        self._patch = b""
        self._anchor, self._engine = "", f"{kind}/{source}"
        self._steps, self._running = 0, False

    # Tasks

    def task_ids(self, split: str, limit: int | None = None) -> Sequence[str]:
        """Instance ids of `split`, in the order of the manifest or file."""
        return self._tasks.ids(self._known_split(split))[: self._known_limit(limit)]

    def split_of(self, task_id: str) -> str:
        """The split that holds `task_id`; raises `BadOptionError` if none does."""
        return self._tasks.split_of(task_id)

    def data_hash(self, task_id: str) -> str:
        """Hash over the instance. Raises `BadOptionError`: no such task."""
        self._tasks.split_of(task_id)
        return self._tasks.find(task_id).data_hash

    def require_trainable(self, split: str) -> None:
        """Raise a `DataError` where `split` is an evaluation set, unless `train_on_evaluation`."""
        if not self._train_on_evaluation:
            self._tasks.refuse_training(split)

    def random_action(self, info: dict[str, Any], rng: Random) -> str:
        """Looks at files, changes one blindly, or submits."""
        return blind_command(rng)

    # For experts and tests, never for agents

    @property
    def task(self) -> Task:
        """What is to be solved, the gold patch included."""
        if self._task is None:
            raise self.reset_needed(started=False)
        return self._task

    @property
    def sandbox(self) -> Sandbox:
        """Where the agent works now; raises `ResetNeededError` when no episode runs."""
        if self._place is None:
            raise self.reset_needed(started=self._task is not None)
        return self._place.sandbox

    # Episodes

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start the task of `options["task_id"]`, else one drawn from `options["split"]`, in a fresh sandbox.

        Raises:
            BadOptionError: unknown option, split or task.
            SandboxMissingError: this machine has no such sandbox; says what to install.
            SandboxError, DataError: the sandbox did not start, or its repository is not to be had.
        """
        self.begin(seed)
        _, task_id = self.choose_task(options)
        self.close()
        self._open_rooms.reopen()
        task = self._tasks.find(task_id)
        started = time.perf_counter()
        self._place = self._open(task)
        self._task, self._patch = task, b""
        self._steps, self._running = 0, True
        self._anchor = _hash(task.data_hash)
        folder = self._place.sandbox.repository
        observation = output.first(task.instance.repo, folder, task.instance.problem_statement, self.max_steps)
        self.show(None, observation)
        info = self._info(task.instance.problem_statement, None, None, None)
        info["seconds"] = Seconds(start=time.perf_counter() - started)
        info["details"] = {"isolation": self._place.sandbox.isolation}
        return observation, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Act once; see the class for the actions."""
        if not self._running or self._place is None:
            raise self.reset_needed(started=self._task is not None)
        place, (parsed, error) = self._place, read(action)
        acted, grade, reason = refused(error or ""), None, None
        self._steps += 1
        submitted, last = isinstance(parsed, Submit), self._steps >= self.max_steps
        try:
            if parsed is not None:
                acted = self._act(place, parsed)
            if acted.died:
                reason = "sandbox_died"
            elif submitted or (last and self._at_limit == "grade"):
                grade = self._judge(place)
        except (InfrastructureError, SandboxMissingError) as broken:  # a daemon that goes is missing from then on
            acted = replace(acted, status=f"[broken: {type(broken).__name__}]")
            reason = f"infra:{type(broken).__name__}: {broken}"
        won = grade is not None and grade.resolved
        if last and reason is None and not (submitted or won):
            reason = "max_steps"
        self._running = not (submitted or won or reason)
        if parsed is not None and acted.error is None:
            self._anchor = _hash(self._anchor, action.strip())
        if not self._running:
            place.close()
        left = self.max_steps - self._steps
        observation = output.after(output.cut(acted.shown), acted.status, left)
        self.show(shown_action(action), observation)
        info = self._info(acted.shown, acted.error is None, acted.error, None if parsed is None else action.strip())
        info |= {"won": won, "score": float(won), "truncation_reason": reason}
        info["details"] = {"isolation": place.sandbox.isolation, **_details(acted, grade, self._patch)}
        info["seconds"] = Seconds(**acted.seconds, **({} if grade is None else _phases(grade)))
        return observation, float(won), (submitted or won) and reason is None, reason is not None, info

    def _act(self, place: Workplace, action: Command | Edit | Submit) -> Acted:
        """Raises `SandboxError` where the sandbox broke and the machine is at fault, not what was done in it."""
        try:
            acted = place.act(action)
            if acted.died:
                self._open_rooms.require()
            return acted
        except SandboxError:
            if not self._rooms_work(place):
                raise
            return Acted(status="[the sandbox has ended]", died=True)

    def _judge(self, place: Workplace) -> Grade:
        """Take the patch, close the room, and grade in another one. Raises `InfrastructureError`."""
        started = time.perf_counter()
        try:
            self._patch = place.sandbox.diff()
        except PatchTooLargeError:
            return Grade(False, "patch_too_large")
        except SandboxError:
            if not self._rooms_work(place):
                raise
            return Grade(False, "patch_unreadable")
        place.close()
        taken = time.perf_counter() - started
        task = self.task
        found = grade(task, self._patch, lambda: self._room(task, grading=True), timeout=self._times[1])
        return replace(found, seconds={"diff": taken, **found.seconds})

    def _rooms_work(self, place: Workplace) -> bool:
        """Whether another room of the task does what this one, which is closed, did not."""
        place.close()
        return works(lambda: self._room(self.task))

    # Snapshots

    def get_state(self) -> bytes:
        """Snapshot of the episode: what changed in the repository, as a patch; files elsewhere and ignored ones are not
        in it."""
        if self._task is None:
            raise BadStateError("no episode to snapshot: call reset first")
        patch = self._place.sandbox.diff() if self._running and self._place is not None else self._patch
        fields = {
            "task_id": self._task.id,
            "data_hash": self._task.data_hash,
            "seed": self.begin(None),
            "rng": snapshot.rng_to_json(self.np_random),
            "steps": self._steps,
            "running": self._running,
            "anchor": self._anchor,
            "patch": base64.b64encode(patch).decode(),
        }
        return snapshot.pack(_FORMAT, fields)

    def set_state(self, state: bytes) -> None:
        """Return to a snapshot, of any task of this source, in a fresh sandbox; raises `BadStateError`, having changed
        nothing."""
        found = snapshot.unpack(state, _FORMAT, _FIELDS)
        snapshot.steps_taken(found["steps"], found["running"], self.max_steps)
        snapshot.within(found["seed"], 0, snapshot.MAX_SEED, "seed")
        rng = snapshot.rng_from_json(found["rng"])
        try:
            task = self._tasks.find(found["task_id"])
            patch = base64.b64decode(found["patch"].encode(), validate=True)
        except (BadOptionError, ValueError) as error:
            raise BadStateError(f"the snapshot's task or patch is none of this environment: {error}") from error
        if found["data_hash"] != task.data_hash or not re.fullmatch(r"[0-9a-f]{16}", found["anchor"]):
            raise BadStateError("the snapshot is of other data")
        place = None
        if found["running"]:
            self._open_rooms.reopen()
            place = self._open(task)
            if not place.apply(patch):
                place.close()
                raise BadStateError("the snapshot's patch does not apply")
        if self._place is not None:
            self._place.close()
        self._task, self._place, self._patch = task, place, patch
        self._np_random, self._seed, self._anchor = rng, found["seed"], found["anchor"]
        self._steps, self._running = found["steps"], found["running"]

    def __getstate__(self) -> dict[str, Any]:
        """All but the tasks, which are opened again, and the sandbox: its episode is found again by `set_state`."""
        plain = self.__dict__.copy()
        plain["_state"] = None if self._task is None else self.get_state()
        for shared in ("_tasks", "_task", "_place", "_open_rooms"):
            plain[shared] = None
        return plain

    def __setstate__(self, plain: dict[str, Any]) -> None:
        state = plain.pop("_state")
        self.__dict__.update(plain)
        self._tasks, self._open_rooms = open_tasks(*self._opened), OpenRooms()
        if state is not None:
            self.set_state(state)

    def close(self) -> None:
        """End the episode and its sandbox; harmless when repeated, also from another thread."""
        self._running = False
        self._open_rooms.close()

    def _open(self, task: Task) -> Workplace:
        return Workplace(self._room(task), self._limits, self._times[0])

    def _room(self, task: Task, *, grading: bool = False) -> Sandbox:
        return self._open_rooms.hold(self._rooms.sandbox(task, grading=grading))

    def _info(self, raw: str, valid: bool | None, error: str | None, parsed: str | None) -> dict[str, Any]:
        task = self.task
        return {
            "task_id": task.id,
            "split": task.split,
            "task_type": task.task_type,
            "seed": self._seed,
            "won": False,
            "score": 0.0,
            "admissible_actions": None,
            "action_valid": valid,
            "action_error": error,
            "parsed_action": parsed,
            "raw_obs": output.cut(raw, output.RAW),
            "anchor": self._anchor,
            "data_hash": task.data_hash,
            "engine": self._engine,
            "steps": self._steps,
            "truncation_reason": None,
            "details": {},
            "seconds": NO_TIME,
        }


def _hash(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def _details(acted: Acted, grade: Grade | None, patch: bytes) -> dict[str, Any]:
    """What an action's `info["details"]` say beside the isolation."""
    if grade is None:
        return {"exit_code": acted.exit_code}
    found: dict[str, Any] = {"verdict": grade.verdict, "fail_to_pass": grade.fail_to_pass}
    if grade.pass_to_pass is not None:
        found["pass_to_pass"] = grade.pass_to_pass
    return {**found, "dropped": list(grade.dropped), "model_patch": patch.decode("utf-8", "replace")}


def _phases(grade: Grade) -> dict[str, float]:
    """Seconds of the end: taking the patch, the tests, and everything else that grading does."""
    spent = dict(grade.seconds)
    return {"diff": spent.pop("diff", 0.0), "tests": spent.pop("tests", 0.0), "grading": sum(spent.values())}
