"""How the model of a run is spoken to: prompts, parser, sampling; for demonstrations, rollouts and export alike."""

from pathlib import Path
from typing import Any

from aem_agent.agent_config import AgentConfig
from aem_agent.loading import chat_frame
from aem_agent.model_policies import ModelPolicy
from aem_agent.prompter import TokenPrompter
from aem_agent.types import Episode, Response, Sampling, TokenEngine, TokenizerLike
from trainer.config import TrainConfig


class Agent:
    """Prompt spec, parser, tokenizer, engine and limits of a run."""

    def __init__(
        self, config: TrainConfig, engine: TokenEngine, tokenizer: TokenizerLike, limit: int, folder: Path
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.described = AgentConfig(
            prompt=config.model.prompt,
            prompt_options=dict(config.model.prompt_options),
            parser=config.model.parser,
            sampling=Sampling(temperature=config.evaluation.temperature, max_new_tokens=config.model.max_new_tokens),
        )
        self.spec, parser = self.described.build()
        frame = (chat_frame(folder) if self.spec.chat else None) or ("", "")
        self.env_id = config.env.id.rpartition(":")[2]
        self._policy = ModelPolicy(self.spec, engine, tokenizer, parser, self.described.sampling, limit, frame=frame)

    def prompter(self) -> TokenPrompter:
        """Makes the prompts of one episode."""
        return self._policy.prompter(self.env_id)

    def policy(self, temperature: float, *, entropies: bool = False) -> ModelPolicy:
        """The model as a policy. Never top-p or top-k: the trainer's log-probs would not know of them."""
        return self._policy.with_sampling(temperature=temperature, entropies=entropies)

    def answer(self, prompts: TokenPrompter, action: str) -> Response:
        """A response to the newest prompt of `prompts` that says `action`, an action of the environment.

        It ends with the spec's stop string, or the end token where there is none.
        """
        text = prompts.answer(action)
        ids = tuple(self.tokenizer.encode(text))
        stopped = any(text.endswith(stop) for stop in self.spec.stop)
        return Response(text, ids if stopped else (*ids, self.tokenizer.eos_token_id))

    def next_prompt(self, episode: Episode) -> tuple[int, ...]:
        """The prompt that would have followed the last turn of `episode`.

        The spec is given what an episode keeps of `info`: score, won, anchor, action_error. The admissible actions are
        not kept, they would be most of a record; a spec that lists them lists none here.
        """
        prompts = self.prompter()
        info: dict[str, Any] = {}
        for turn in episode.turns:
            prompts.prompt(turn.observation, info)
            prompts.said(turn.observation, turn.response, turn.action)
            info = turn.info
        return prompts.prompt(episode.final_observation, info)[0]
