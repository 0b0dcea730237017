"""`aem/ALFWorld-v0`: household tasks in text, on generated or official games, by the native or the real engine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from aem_envs import snapshot
from aem_envs.actions import read_action, shown
from aem_envs.alfworld.engine import Game
from aem_envs.alfworld.sources import EmbeddedSource, EngineName, Loaded, OfficialSource, Source, check_types
from aem_envs.alfworld.text import BANNER, NOTHING_HAPPENS
from aem_envs.core import BadOptionError, BadStateError, Capabilities, InfrastructureError, TextEnv, one_of
from aem_envs.info import NO_TIME
from envs_data.alfworld.problem import Dialect
from envs_data.errors import UnknownSplitError, UnknownTaskError

if TYPE_CHECKING:
    from aem_envs.alfworld.real_play import RealPlay

SourceName = Literal["embedded", "official"]

_FORMAT = "aem/ALFWorld-v0"
_FIELDS: dict[str, type] = {
    "task_id": str,
    "data_hash": str,
    "dialect": str,
    "seed": int,
    "rng": list,
    "steps": int,
    "running": bool,
    "game": dict,
}


def _none_ignored(source: str, **given: bool) -> None:
    """Refuse settings of the other source: they would change nothing, without a word."""
    for name, is_given in given.items():
        home = "official" if name == "data" else "embedded"
        if is_given and source != home:
            raise BadOptionError(f"{name} is a setting of source={home}; with source={source} leave it out")


def _start(task: Loaded, name: str) -> "Game | RealPlay":
    """The engine on a task, still to be reset."""
    if task.world is not None:
        return Game(task.world)
    from aem_envs.alfworld.real_play import RealPlay

    assert task.file is not None
    return RealPlay(task.file, name)


def _close(game: "Game | RealPlay") -> None:
    if not isinstance(game, Game):
        game.close()


class ALFWorldEnv(TextEnv):
    """Find, clean, heat, cool, put or look at things in a house, told in text. Reward 1 when the task is done.

    Actions are ALFWorld's: go to X, open X, close X, take O from X, move O to X (old dialect: put O in/on X), use O,
    clean/heat/cool O with X, slice O with K, examine, look, inventory, help. Case and spaces do not matter. What is not
    admissible makes nothing happen, and counts as a step.

    Keyword arguments:
        source: "embedded" (generated games; default) or "official" (the user's ALFWorld data).
        split: "train" (default), "valid_seen" or "valid_unseen".
        size: Embedded rooms: "small" (default), "medium" or "official".
        dialect: Embedded wording: "current" (default) or "old". Official games bring their own.
        task_types: Only these task types: one name, several with commas, or a sequence.
        engine: "native" (default), "textworld" (the installed real engine, in a worker process; it runs code out of
            game files) or "auto" (native where it knows the game's rules by their hash, else textworld).
        data: Folder of the official data; default `$ALFWORLD_DATA`. `size`, `dialect` and `data` given for the wrong
            source are refused.
        max_steps: Actions per episode (50).
        render_mode: "ansi", "human" or "html".

    `reset(options={"task_id": …, "split": …})` chooses a task. `info["engine"]` says engine and dialect.
    """

    capabilities = Capabilities(snapshot=True, deepcopy=True, admissible_actions=True)
    splits: tuple[str, ...] = ("train", "valid_seen", "valid_unseen")

    def __init__(
        self,
        *,
        source: SourceName = "embedded",
        split: str | None = None,
        size: str = "small",
        dialect: Dialect = "current",
        task_types: Sequence[str] | str | None = None,
        engine: EngineName = "native",
        data: str | None = None,
        max_steps: int = 50,
        render_mode: str | None = None,
    ) -> None:
        one_of("source", source, get_args(SourceName))
        one_of("engine", engine, get_args(EngineName))
        one_of("dialect", dialect, get_args(Dialect))
        types = check_types(task_types)
        _none_ignored(source, size=size != "small", dialect=dialect != "current", data=data is not None)
        self.source: Source
        if source == "embedded":
            self.source = EmbeddedSource(size, dialect, types, engine)
        else:
            self.source = OfficialSource(data, types, engine)
        self.splits = self.source.splits
        super().__init__(split=split, max_steps=max_steps, render_mode=render_mode)
        self._task_id, self._split = "", ""
        self._task: Loaded | None = None
        self._game: Game | RealPlay | None = None
        self._steps, self._running = 0, False

    def task_ids(self, split: str, limit: int | None = None) -> Sequence[str]:
        """Task ids of `split` that pass the filter; the embedded `train` has no end and needs a `limit`."""
        return self.source.ids(self._known_split(split), self._known_limit(limit))

    def split_of(self, task_id: str) -> str:
        """The split that holds `task_id`; raises `BadOptionError` if none does."""
        try:
            return self.source.split_of(task_id)
        except (UnknownTaskError, UnknownSplitError) as error:
            raise BadOptionError(str(error)) from error

    def data_hash(self, task_id: str) -> str:
        """What `info["data_hash"]` says of a task now; starts no game. Raises `BadOptionError`, `DataError`."""
        self.split_of(task_id)
        return self.source.load(task_id).data_hash

    def draw_task(self, split: str) -> str:
        """A task of `split`, drawn by `self.np_random`."""
        return self.source.draw(split, self.np_random)

    @property
    def game(self) -> "Game | RealPlay":
        """The running game: whole state, for experts and tests, never for agents."""
        if self._game is None:
            raise self.reset_needed(started=False)
        return self._game

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start the task of `options["task_id"]`, else one drawn from `options["split"]`.

        Raises:
            BadOptionError: unknown option, split or task.
            DataError: the task's game file is missing or damaged, or cannot be played by the chosen engine.
        """
        self.begin(seed)
        split, task_id = self.choose_task(options)
        task = self.source.load(task_id)
        self._running = False
        if self._game is None or task != self._task:
            self._replace_game(_start(task, task_id))
        self._task, self._split, self._task_id = task, split, task_id
        try:
            intro = self.game.reset()
        except InfrastructureError:
            self._replace_game(None)  # the next reset shall start afresh
            raise
        self._steps, self._running = 0, True
        observation = intro.removeprefix(BANNER).strip()
        if self.render_mode:
            self.show(None, observation)
        return observation, self._info(intro, None, None, None, None)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Act once; see the class for the actions."""
        if not self._running:
            raise self.reset_needed(started=self._task is not None)
        game = self._game
        assert game is not None
        parsed, error = read_action(action)
        feedback, reason = NOTHING_HAPPENS, None
        if error is None and parsed is not None:
            try:
                feedback = game.step(parsed)
            except InfrastructureError as broken:
                error = reason = f"infra:{type(broken).__name__}: {broken}"
            else:
                error = "not admissible here" if feedback == NOTHING_HAPPENS else None
        self._steps += 1
        won = game.won and reason is None
        if not (won or reason) and self._steps >= self.max_steps:
            reason = "max_steps"
        self._running = not won and reason is None
        if self.render_mode:
            self.show(shown(action), feedback)
        info = self._info(feedback, error is None, error, parsed, reason)
        info["won"], info["score"] = won, float(won)
        if reason and reason != "max_steps":
            self._replace_game(None)
        return feedback, float(won), won, reason is not None, info

    def get_state(self) -> bytes:
        """Snapshot of the episode, the random generator's state included."""
        if self._game is None or self._task is None:
            raise BadStateError("no episode to snapshot: call reset first")
        fields = {
            "task_id": self._task_id,
            "data_hash": self._task.data_hash,
            "dialect": self._task.dialect,
            "seed": self.begin(None),
            "rng": snapshot.rng_to_json(self.np_random),
            "steps": self._steps,
            "running": self._running,
            "game": self._game.state(),
        }
        return snapshot.pack(_FORMAT, fields)

    def set_state(self, state: bytes) -> None:
        """Return to a snapshot, of any task this environment has; raises `BadStateError`, having changed nothing."""
        found = snapshot.unpack(state, _FORMAT, _FIELDS)
        snapshot.steps_taken(found["steps"], found["running"], self.max_steps)
        snapshot.within(found["seed"], 0, snapshot.MAX_SEED, "seed")
        rng = snapshot.rng_from_json(found["rng"])
        try:
            split = self.split_of(found["task_id"])
            task = self.source.load(found["task_id"])
        except BadOptionError as error:
            raise BadStateError(f"the snapshot's task does not exist here: {error}") from error
        if (found["data_hash"], found["dialect"]) != (task.data_hash, task.dialect):
            raise BadStateError("the snapshot is of other game data or of another dialect")
        same = self._game if task == self._task else None
        game = same or _start(task, found["task_id"])
        try:
            game.load_state(found["game"])  # checks first, then changes
        except BaseException:
            if game is not same:
                _close(game)
            raise
        if game is not same:
            self._replace_game(game)
        self._np_random, self._seed = rng, found["seed"]
        self._task, self._split, self._task_id = task, split, found["task_id"]
        self._steps, self._running = found["steps"], found["running"] and not game.won

    def __getstate__(self) -> dict[str, Any]:
        """All but the game and its shared world; they are found again by `set_state`."""
        plain = self.__dict__.copy()
        plain["_task"] = plain["_game"] = None
        plain["_state"] = None if self._game is None else self.get_state()
        return plain

    def __setstate__(self, plain: dict[str, Any]) -> None:
        state = plain.pop("_state")
        self.__dict__.update(plain)
        if state is not None:
            self.set_state(state)

    def close(self) -> None:
        """Free the game, and the real engine's process with it; harmless when repeated."""
        self._running = False
        self._replace_game(None)

    def _replace_game(self, game: "Game | RealPlay | None") -> None:
        if self._game is not None:
            _close(self._game)
        self._game = game

    def _info(
        self, raw: str, valid: bool | None, error: str | None, parsed: str | None, reason: str | None
    ) -> dict[str, Any]:
        task, game = self._task, self._game
        assert task is not None and game is not None
        won = game.won
        return {
            "task_id": self._task_id,
            "split": self._split,
            "task_type": task.task_type,
            "seed": self._seed,
            "won": won,
            "score": float(won),
            "admissible_actions": game.admissible(),
            "action_valid": valid,
            "action_error": error,
            "parsed_action": parsed,
            "raw_obs": raw,
            "anchor": game.anchor(),
            "data_hash": task.data_hash,
            "engine": task.engine,
            "steps": self._steps,
            "truncation_reason": reason,
            "details": {},
            "seconds": NO_TIME,
        }
