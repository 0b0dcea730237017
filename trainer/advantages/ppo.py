"""PPO's advantages with a critic: GAE (arXiv 1506.02438, 1707.06347) over turns (default) or over tokens.

    δ_t = r_t + γ·V_{t+1} − V_t        A_t = Σ_{k ≥ t} (γλ)^{k−t} δ_k        target_t = A_t + V_t

Over turns V_t is taken at the end of turn t's prompt; over tokens before each response token, the environment's words
in between being skipped, and a turn's reward arrives with its last token. After the last step V is 0 if the episode
terminated, and the critic's value of the last state if it was truncated, or 0 likewise with `truncation_ends`. That
value makes a limit of steps something that the policy need not reckon with. Where running into it is how tasks are
failed, and γ is 1, nothing keeps V from rising to what a win is worth and beyond, and winning counts no more than
going on.
"""

from typing import Literal

import torch
from torch import Tensor

from trainer.advantages.base import Advantages, Signals, needs_critic
from trainer.tensors import discounted_sum, last_of_segment, whiten


def gae(
    rewards: Tensor,
    values: Tensor,
    bootstrap: Tensor,
    episode_of_step: Tensor,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """Advantages and critic targets of steps that lie episode after episode, in time order.

    rewards, values, episode_of_step [steps]; bootstrap [episodes], V after the last step → two [steps].
    """
    following = torch.where(last_of_segment(episode_of_step), bootstrap[episode_of_step], values.roll(-1))
    advantages = discounted_sum(rewards + gamma * following - values, episode_of_step, gamma * lam)
    return advantages, advantages + values


@needs_critic
def ppo(
    signals: Signals,
    *,
    level: Literal["turn", "token"] = "turn",
    gamma: float = 1.0,
    lam: float = 0.95,
    whitened: bool = True,
    truncation_ends: bool = False,
) -> Advantages:
    """GAE per response (level "turn") or per token; `whitened` over the batch here, since AEM must come after.

    Targets are neither whitened nor modulated. Raises ValueError without the critic's values, or with values of the
    other level.
    """
    if signals.values is None or (signals.final_values is None and not truncation_ends):
        raise ValueError("ppo needs a critic: signals.values or signals.final_values are missing")
    rewards, episode = signals.rewards, signals.episode_index
    if level == "token":
        at_end = last_of_segment(signals.span_index)
        rewards = torch.where(at_end, rewards[signals.span_index], 0)
        episode = episode[signals.span_index]
    if signals.values.shape != episode.shape:
        raise ValueError(f"need {episode.shape[0]} values, one per {level}, got {signals.values.shape[0]}")
    bootstrap = torch.zeros_like(signals.returns)
    if signals.final_values is not None and not truncation_ends:
        bootstrap = torch.where(signals.terminated, bootstrap, signals.final_values)
    advantages, targets = gae(rewards, signals.values, bootstrap, episode, gamma=gamma, lam=lam)
    if whitened:
        advantages = whiten(advantages)
    return Advantages(advantages, "response" if level == "turn" else "token", targets)
