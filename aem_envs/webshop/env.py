"""`aem/WebShop-v0`: shopping by instruction in text, over generated or official products.

(Over 300 lines: one class, a third of it words on arguments and errors; what has a meaning of its own is elsewhere.)
"""

import re
from collections.abc import Sequence
from random import Random
from typing import Any, Literal, get_args

from aem_envs import snapshot
from aem_envs.actions import shown, unusable
from aem_envs.core import BadOptionError, BadStateError, Capabilities, InfrastructureError, TextEnv, one_of
from aem_envs.info import NO_TIME
from aem_envs.webshop.reward import Score, score
from aem_envs.webshop.session import QUERY_FORM, Session
from aem_envs.webshop.sources import SourceName, open_shop
from aem_envs.webshop.state import plain_state, restore
from aem_envs.webshop.tasks import Tasks
from aem_envs.webshop.view import instruction, plain_text, rich_text, url
from envs_data.webshop.nouns import TaggerName
from envs_data.webshop.product import GOAL_KINDS, Goal, GoalKind

ObservationMode = Literal["text", "text_rich", "html", "url"]

_ACTION = re.compile(r"(.+?)\[(.+)\]", re.DOTALL)
_ORIGINAL_ACTION = re.compile(r"(.+)\[(.+)\]")
_LINE_BREAK = re.compile(r"[\r\n]")
_FORMAT = "aem/WebShop-v0"
_FIELDS: dict[str, type] = {
    "task_id": str,
    "data_hash": str,
    "seed": int,
    "rng": list,
    "steps": int,
    "running": bool,
    "session": dict,
}


class WebShopEnv(TextEnv):
    """Find a product that fits an instruction, choose its options, buy it. Reward in [0, 1], once, for what is bought.

    Actions: search[words] on any page; click[thing] on what the page has: "back to search", "next >", "< prev", a
    product's asin, an option's value, "description", "features", "reviews", "buy now". Case does not matter inside the
    brackets. What a page does not have makes nothing happen, and counts as a step. Won: a reward of 1.

    Keyword arguments:
        source: "embedded" (generated products; default) or "official" (the user's WebShop files).
        split: "train" (default), "dev" or "test".
        products: Embedded: how many (1000). Official: only the first so many of the file; all if None.
        goals: "human" (instructions as people write them; default) or "synthetic" (one per combination of options).
        observation_mode: "text" (default), "text_rich" (marks buttons), "html" or "url".
        compat: "original" brings the original's quirks back: the score on the last page; the first goal of a split is
            never drawn; what has a bracket of its own cannot be clicked, nor an action have blanks around it; blank
            texts are shown, and blanks around texts in `text_rich`. None (default): none of them.
        tagger: Official: finds nouns in titles, for the reward: "spacy", "lexicon", or "auto" (spacy if installed).
        data: Folder of the official files, or the products file; default `$WEBSHOP_DATA`.
        cache: Folder for the store built from the catalogue; default `$AEM_CACHE`, else the user's cache folder.
        max_steps: Actions per episode (15).
        render_mode: "ansi", "human" or "html".

    `reset(options={"task_id": …, "split": …})` chooses a task. `info["engine"]` says catalogue, number of products and
    tagger; `info["raw_obs"]` is the page as text in every mode.
    """

    capabilities = Capabilities(snapshot=True, deepcopy=True, admissible_actions=True)
    splits: tuple[str, ...] = ("train", "dev", "test")

    def __init__(
        self,
        *,
        source: SourceName = "embedded",
        split: str | None = None,
        products: int | None = None,
        goals: GoalKind = "human",
        observation_mode: ObservationMode = "text",
        compat: Literal["original"] | None = None,
        tagger: TaggerName = "auto",
        data: str | None = None,
        cache: str | None = None,
        max_steps: int = 15,
        render_mode: str | None = None,
    ) -> None:
        one_of("source", source, get_args(SourceName))
        one_of("kind of goals", goals, GOAL_KINDS)
        one_of("observation_mode", observation_mode, get_args(ObservationMode))
        one_of("tagger", tagger, get_args(TaggerName))
        if compat is not None:
            one_of("compat", compat, ("original",))
        self._open = (source, products, goals, tagger, data, cache)
        self._open_shop()
        self.splits = tuple(self._tasks.splits)
        super().__init__(split=split, max_steps=max_steps, render_mode=render_mode)
        self.mode, self.compat = observation_mode, compat
        self._engine = f"{self.store.name}/{self.store.products}-products/nouns-{self.store.tagger}"
        self._number = -1
        self._id = self._split = self._task_type = ""
        self._goal: Goal | None = None
        self._session: Session | None = None
        self._score: Score | None = None
        self._steps, self._running = 0, False

    def _open_shop(self) -> None:
        source, _, goals, *_ = self._open
        self.shop = open_shop(*self._open)
        self.store = self.shop.store
        # official goals are numbered alike however many products are searched; embedded ones belong to their number
        self._tasks = Tasks(self.store, f"{self.store.products}/{goals}" if source == "embedded" else goals)

    # Tasks

    def task_ids(self, split: str, limit: int | None = None) -> Sequence[str]:
        """Ids of the goals of `split`, in the order of the catalogue's splits."""
        part = self._tasks.splits[self._known_split(split)]
        return [self._tasks.id(number) for number in part[: self._known_limit(limit)]]

    def split_of(self, task_id: str) -> str:
        """The split that holds `task_id`; raises `BadOptionError` if none does."""
        return self._tasks.find(task_id)[0]

    def data_hash(self, task_id: str) -> str:
        """Hash of the whole catalogue, the same for all its tasks. Raises `BadOptionError`: no such task."""
        self._tasks.find(task_id)
        return self.store.data_hash

    def draw_task(self, split: str) -> str:
        """A goal of `split`, drawn by `self.np_random` according to the goals' weights."""
        return self._tasks.id(self._tasks.draw(split, self.np_random, skip_first=self.compat is not None))

    def random_action(self, info: dict[str, Any], rng: Random) -> str:
        """Any admissible action; a search is for one to four neighbouring words of the instruction."""
        action = super().random_action(info, rng)
        if action != QUERY_FORM:
            return action
        words = instruction(info["raw_obs"]).split()
        start = rng.randrange(len(words)) if words else 0
        return f"search[{' '.join(words[start : start + rng.randint(1, 4)]) or 'shop'}]"

    # For experts and tests, never for agents

    @property
    def goal(self) -> Goal:
        """What is to be bought."""
        if self._goal is None:
            raise self.reset_needed(started=False)
        return self._goal

    @property
    def session(self) -> Session:
        """The shopper's page and way."""
        if self._session is None:
            raise self.reset_needed(started=False)
        return self._session

    @property
    def last_score(self) -> Score | None:
        """What the purchase was worth, part by part; None before it."""
        return self._score

    # Episodes

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start the task of `options["task_id"]`, else one drawn from `options["split"]`.

        Raises:
            BadOptionError: unknown option, split or task.
        """
        self.begin(seed)
        split, task_id = self.choose_task(options)
        self._running = False
        number = self._tasks.find(task_id)[1]
        self._start(split, number, self._new_session(number))
        self._steps, self._running = 0, True
        observation, raw = self._observe()
        if self.render_mode:
            self.show(None, observation)
        return observation, self._info(raw, None, None, None, None)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Act once; see the class for the actions."""
        if not self._running:
            raise self.reset_needed(started=self._goal is not None)
        session = self.session
        error = unusable(action)
        parsed, reward, reason = None, 0.0, None
        if error is None:
            try:
                parsed, error = self._do(action)
            except InfrastructureError as broken:  # a browser's; the text environment stands on nothing that breaks
                error = reason = f"infra:{type(broken).__name__}: {broken}"
        bought = session.page == "done" and reason is None
        if bought:
            self._score = self._judge()
            reward = self._score.reward
        self._steps += 1
        if not (bought or reason) and self._steps >= self.max_steps:
            reason = "max_steps"
        self._running = not bought and reason is None
        observation, raw = self._observe()
        if self.render_mode:
            self.show(shown(action), observation)
        return observation, reward, bought, reason is not None, self._info(raw, error is None, error, parsed, reason)

    def _do(self, action: str) -> tuple[str | None, str | None]:
        """Carry out an action: (how it was understood, why it was not accepted)."""
        match = _ORIGINAL_ACTION.match(action) if self.compat else _ACTION.match(action.strip())
        if match is None:
            return None, "an action is search[words] or click[thing]"
        verb, argument = match[1], match[2].lower()
        parsed = f"{verb}[{argument}]"
        if verb == "search":
            self._search(_LINE_BREAK.sub(" ", argument))  # a search bar has one line
        elif verb != "click":
            return parsed, f"unknown action {verb[:40]!r}: an action is search[words] or click[thing]"
        elif not self._click(argument):
            return parsed, "there is no such thing to click on this page"
        return parsed, None

    def _search(self, words: str) -> None:
        self.session.search(words)

    def _click(self, thing: str) -> bool:
        return self.session.click(thing)

    def _actions(self) -> list[str]:
        return self.session.actions()

    def _observe(self) -> tuple[str, str]:
        """(the observation in this environment's mode, the page as text)."""
        session, original = self.session, self.compat is not None
        raw = "" if original else session.text()
        if self.mode == "text" and not original:
            return raw, raw
        view = session.view(str(self._score.reward) if original and self._score else None, original)
        raw = raw or plain_text(view)
        match self.mode:
            case "text":
                return raw, raw
            case "text_rich":
                return rich_text(view), raw
            case "url":
                return url(view, str(self._number)), raw
        from aem_envs.webshop.html import page

        return page(view), raw

    def _judge(self) -> Score:
        session, store = self.session, self.store
        wanted = store.find(self.goal.asin)
        assert wanted is not None, "goals are made of the catalogue's own products"
        products = store.product(session.doc), store.product(wanted)
        nouns = store.nouns(session.doc), store.nouns(wanted)
        return score(products[0], list(session.options.values()), self.goal, products[1], *nouns)

    # Snapshots

    def get_state(self) -> bytes:
        """Snapshot of the episode, the random generator's state included."""
        if self._session is None:
            raise BadStateError("no episode to snapshot: call reset first")
        fields = {
            "task_id": self._id,
            "data_hash": self.store.data_hash,
            "seed": self.begin(None),
            "rng": snapshot.rng_to_json(self.np_random),
            "steps": self._steps,
            "running": self._running,
            "session": plain_state(self._session),
        }
        return snapshot.pack(_FORMAT, fields)

    def set_state(self, state: bytes) -> None:
        """Return to a snapshot, of any task of this shop; raises `BadStateError`, having changed nothing."""
        found = snapshot.unpack(state, _FORMAT, _FIELDS)
        snapshot.steps_taken(found["steps"], found["running"], self.max_steps)
        snapshot.within(found["seed"], 0, snapshot.MAX_SEED, "seed")
        rng = snapshot.rng_from_json(found["rng"])
        if found["data_hash"] != self.store.data_hash:
            raise BadStateError("the snapshot is of another catalogue")
        try:
            split, number = self._tasks.find(found["task_id"])
        except BadOptionError as error:
            raise BadStateError(f"the snapshot's task does not exist here: {error}") from error
        session = self._new_session(number)
        restore(session, found["session"])
        if found["running"] and session.page == "done":
            raise BadStateError("the snapshot's episode runs on after the purchase")
        self._start(split, number, session)
        self._np_random, self._seed = rng, found["seed"]
        self._steps, self._running = found["steps"], found["running"]
        self._score = self._judge() if session.page == "done" else None

    def __getstate__(self) -> dict[str, Any]:
        """All but the shop, which is opened again, and the episode, which is found again by `set_state`."""
        plain = self.__dict__.copy()
        for shared in ("shop", "store", "_tasks", "_goal", "_session", "_score"):
            plain[shared] = None
        plain["_state"] = None if self._session is None else self.get_state()
        return plain

    def __setstate__(self, plain: dict[str, Any]) -> None:
        state = plain.pop("_state")
        self.__dict__.update(plain)
        self._open_shop()
        if state is not None:
            self.set_state(state)

    def close(self) -> None:
        """End the episode; harmless when repeated."""
        self._running = False

    def _new_session(self, number: int) -> Session:
        return Session(self.shop, self.store.goal(number).instruction, self._tasks.id(number))

    def _start(self, split: str, number: int, session: Session) -> None:
        self._goal = self.store.goal(number)
        self._split, self._number, self._session, self._score = split, number, session, None
        self._id, self._task_type = self._tasks.id(number), self.store.section(number)

    def _info(
        self, raw: str, valid: bool | None, error: str | None, parsed: str | None, reason: str | None
    ) -> dict[str, Any]:
        session, worth = self.session, self._score.reward if self._score else 0.0
        return {
            "task_id": self._id,
            "split": self._split,
            "task_type": self._task_type,
            "seed": self._seed,
            "won": worth == 1.0,
            "score": worth,
            "admissible_actions": self._actions(),
            "action_valid": valid,
            "action_error": error,
            "parsed_action": parsed,
            "raw_obs": raw,
            "anchor": session.anchor(self.mode in ("text_rich", "html")),
            "data_hash": self.store.data_hash,
            "engine": self._engine,
            "steps": self._steps,
            "truncation_reason": reason,
            "details": {},
            "seconds": NO_TIME,
        }
