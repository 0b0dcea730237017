"""How prompts read an environment's texts: what the first one says, and how to say the others in fewer words."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from aem_agent.model.vocabulary import alfworld_words
from aem_agent.registry import env_texts
from aem_envs.plugins import UnknownPluginError


@dataclass(frozen=True, slots=True)
class Intro:
    """What the first observation of an episode tells."""

    task: str
    """The task sentence; empty where the environment has no fixed place for it."""
    scene: str
    """The rest, or all of it."""
    brief: str = ""
    """The task in fewer words, for small models; empty: as it is."""


class EnvText(Protocol):
    """One environment's texts. Registered in `aem_agent.registry.env_texts` under the environment's id.

    `say` and `mean` translate between actions as the environment takes them and as small models say them beside
    `compact` texts; what they do not know passes unchanged. mean(say(action)) is an action that does the same.
    """

    def intro(self, observation: str) -> Intro:
        """Take the first observation apart."""
        ...

    def compact(self, observation: str) -> str:
        """An observation with words left out that carry nothing, for small models."""
        ...

    def words(self) -> Iterable[str]:
        """Texts that together hold every word the environment can say, for word-level tokenizers; none if unknown."""
        ...

    def say(self, action: str, observation: str) -> str:
        """An action of the environment, in answer to `observation`, in a small model's words."""
        ...

    def mean(self, said: str, observation: str) -> str:
        """The environment's action for what a small model said in answer to `observation`."""
        ...


class AnyText:
    """Of an environment nothing is known about: texts and actions are taken as they are."""

    def intro(self, observation: str) -> Intro:
        return Intro("", observation.strip())

    def compact(self, observation: str) -> str:
        return observation.strip()

    def words(self) -> Iterable[str]:
        return ()

    def say(self, action: str, observation: str) -> str:
        return action

    def mean(self, said: str, observation: str) -> str:
        return said


_ARRIVED_OLD = re.compile(r"You arrive at (loc )[^.\n]{1,60}\. (?=\S)")
_FILLER = re.compile(r"You arrive at [^.\n]{1,60}\. (?=\S)|\b(?:you|an?|the|and) |,", re.IGNORECASE)


class AlfworldText(AnyText):
    """ALFWorld's texts, in both dialects, with or without the banner line."""

    def intro(self, observation: str) -> Intro:
        scene, found, task = observation.partition("Your task is to:")
        if not found:
            return AnyText().intro(observation)
        return Intro(task.strip(), scene.rpartition("=-")[2].strip())

    def compact(self, observation: str) -> str:
        """Drops articles, commas and the sentence that repeats where one went: "On the shelf 1, you see a pen 2." is
        "On shelf 1 see pen 2."; of the room's description only the list is left. "You arrive at loc 9. On …" becomes
        "loc On …": the word tells the old dialect, whose commands differ, from the current one."""
        return _compact(observation)

    def words(self) -> Iterable[str]:
        return alfworld_words()


@lru_cache(maxsize=65536)
def _compact(observation: str) -> str:
    text = observation.strip()
    if text.startswith("You are in the middle of a room."):
        text = text.rpartition("you see ")[2].rstrip(".") or text
    return _FILLER.sub("", _ARRIVED_OLD.sub(r"\1", text))


def env_text(env_id: str) -> EnvText:
    """The texts of an environment; `AnyText` where none are registered."""
    if ":" in env_id:  # "module:EnvId", whose module adds its own entry when imported
        env_id = env_id.rpartition(":")[2]
    try:
        found: EnvText = env_texts.get(env_id)()
    except UnknownPluginError:
        return AnyText()
    return found
