"""Advantage estimators, one small module each, looked up by name: `estimators.get("grpo")(signals, std_floor=1.0)`."""

from trainer.advantages.base import Advantages, Estimator, Signals, estimators, needs_critic, uses_critic
from trainer.advantages.penalty import penalise_invalid

estimators.add("dr_grpo", "trainer.advantages.dr_grpo:dr_grpo")
estimators.add("empg", "trainer.advantages.empg:empg")
estimators.add("gigpo", "trainer.advantages.gigpo:gigpo")
estimators.add("grpo", "trainer.advantages.grpo:grpo")
estimators.add("ppo", "trainer.advantages.ppo:ppo")
estimators.add("reinforce_pp", "trainer.advantages.reinforce_pp:reinforce_pp")
estimators.add("rloo", "trainer.advantages.rloo:rloo")

__all__ = ["Advantages", "Estimator", "Signals", "estimators", "needs_critic", "penalise_invalid", "uses_critic"]
