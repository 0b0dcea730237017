"""What is compared: starts, arms, seeds, and how runs are judged. Registered in `docs/study.md` before they ran."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from starts import STARTS

from trainer import algorithms
from trainer.config import TrainConfig


@dataclass(frozen=True)
class Arm:
    """One way to train: a published algorithm's settings, and what differs from them."""

    settings: tuple[str, ...] = ()
    algorithm: str = "grpo"


@dataclass(frozen=True, eq=False)  # one object each: hashed by identity
class Study:
    """Arms that are compared from the same starts, seed by seed."""

    name: str
    question: str
    start: str
    """Name in `STARTS`: the recipe, warm start included."""
    arms: Mapping[str, Arm]
    contrasts: tuple[tuple[str, str], ...]
    """Pairs (arm, baseline) that are tested; all of a study are corrected together."""
    seeds: tuple[int, ...]
    split: str = "valid_unseen"
    tasks: int = 500
    temperatures: tuple[float, ...] = (1.0, 0.4)
    """At which held-out success is measured, each task once."""
    signs: tuple[int, ...] = ()
    """Of `contrasts`: 1 where the arm is predicted to do better, −1 worse; empty: nothing is predicted."""
    family: str = ""
    """Studies of one family are corrected together; without a name, each by itself."""
    noticed: tuple[tuple[str, str], ...] = ()
    """Pairs that were compared once the runs had been seen: shown with intervals, and no test of anything."""

    @property
    def start_config(self) -> TrainConfig:
        """The recipe that all arms change."""
        return STARTS[self.start]

    def config(self, arm: str, seed: int) -> TrainConfig:
        """The run of one arm, warm start included."""
        chosen = self.arms[arm]
        return algorithms.use(replace(STARTS[self.start], seed=seed), chosen.algorithm, chosen.settings)


OFF = "aem.enabled=false"
VARIANTS: dict[str, tuple[str, ...]] = {
    "off": (OFF,),
    "aem": (),
    "reversed": ("aem.direction=reversed",),
    "shuffled": ("aem.shuffle=true",),
}
EPISODE = "algorithm.aggregate=episode_mean"

PRIMARY = Study(
    name="primary",
    question="Does AEM help GRPO from a weak start, does its direction matter, is it more than uneven weights?",
    start="weak",
    arms={
        **{name: Arm(settings) for name, settings in VARIANTS.items()},
        **{f"{name}-episode": Arm((*settings, EPISODE)) for name, settings in VARIANTS.items()},
    },
    contrasts=tuple(
        (f"{arm}{loss}", f"{base}{loss}")
        for loss in ("", "-episode")
        for arm, base in (("aem", "off"), ("reversed", "off"), ("aem", "shuffled"))
    ),
    signs=(1, -1, 1) * 2,
    seeds=tuple(range(16)),
    noticed=tuple((f"{name}-episode", name) for name in ("off", "aem")),
)

BOOTSTRAP = ("algorithm.truncation_ends=false",)
"""PPO as it was when `SECONDARY` was registered."""
ALGORITHMS = ("dapo", "gspo", "rloo", "gigpo", "ppo")
SECONDARY = Study(
    name="algorithms",
    question="Does AEM help other algorithms, and is it better than EMPG?",
    start="weak",
    arms={
        "off": Arm((OFF,)),
        "aem": Arm(),
        **{
            f"{name}-{side}": Arm((*VARIANTS[side], *(BOOTSTRAP if name == "ppo" else ())), name)
            for name in ALGORITHMS
            for side in ("off", "aem")
        },
        "empg": Arm((OFF,), "empg"),
    },
    contrasts=(*((f"{name}-aem", f"{name}-off") for name in ALGORITHMS), ("aem", "empg")),
    seeds=tuple(range(10)),
)

ABLATIONS = Study(
    name="ablations",
    question="Which parts of AEM matter?",
    start="weak",
    arms={
        "off": Arm((OFF,)),
        "aem": Arm(),
        "trajectory": Arm(("aem.scope=trajectory",)),
        "batch": Arm(("aem.scope=batch",)),
        "lam-0.5": Arm(("aem.lam=0.5",)),
        "lam-2": Arm(("aem.lam=2.0",)),
        "no-guard": Arm(("aem.range_guard=0.0",)),
        "surprisal": Arm(("aem.proxy=mean_token_surprisal",)),
        "relative": Arm(("aem.proxy=relative_surprisal",)),
    },
    contrasts=(
        *((name, "aem") for name in ("trajectory", "batch", "lam-0.5", "lam-2", "no-guard", "surprisal", "relative")),
        ("relative", "off"),
    ),
    seeds=tuple(range(10)),
)

BALANCE = Study(
    name="balance",
    question="Does AEM act by what rewards weigh against punishments, or by which responses have the weight?",
    start="weak",
    arms={
        **{name: PRIMARY.arms[name] for name in ("off-episode", "aem-episode", "shuffled-episode")},
        "by-sign-episode": Arm(("aem.shuffle_by_sign=true", EPISODE)),
    },
    contrasts=(
        ("by-sign-episode", "shuffled-episode"),
        ("aem-episode", "by-sign-episode"),
        ("by-sign-episode", "off-episode"),
    ),
    signs=(1, 1, 0),
    seeds=PRIMARY.seeds,
)
"""Thought of once `PRIMARY` had been seen."""

CRITIC = Study(
    name="critic",
    question="Does PPO fail from the weak start because its critic values what would come after the last step allowed?",
    start="weak",
    arms={
        **{name: SECONDARY.arms[name] for name in ("ppo-off", "ppo-aem")},
        **{f"ppo-ends-{side}": Arm(VARIANTS[side], "ppo") for side in ("off", "aem")},
    },
    contrasts=(("ppo-ends-off", "ppo-off"), ("ppo-ends-aem", "ppo-aem"), ("ppo-ends-aem", "ppo-ends-off")),
    signs=(1, 1, 0),
    seeds=SECONDARY.seeds,
)
"""Thought of once five seeds of `SECONDARY` had been seen, and two runs of seeds 0 and 1."""

LONG = Study(
    name="long-responses",
    question="Does AEM help GRPO where responses are longer and the start is stronger?",
    start="thoughts-strong",
    arms={name: PRIMARY.arms[name] for name in ("off-episode", "aem-episode", "shuffled-episode")},
    contrasts=(("aem-episode", "off-episode"), ("aem-episode", "shuffled-episode")),
    signs=(1, 1),
    seeds=tuple(range(10)),
)
"""Thought of once the analyses of the start `thoughts` had been seen."""

LOSS = Study(
    name="loss",
    question="Does GRPO do better where every episode weighs the same than where every token does?",
    start="weak",
    arms={name: PRIMARY.arms[name] for name in ("off", "off-episode")},
    contrasts=(("off-episode", "off"),),
    signs=(1,),
    seeds=tuple(range(16, 26)),
)
"""Noticed in `PRIMARY`: asked again of seeds that it does not have."""

REGIMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "few-games": ("weak", ("env.train_tasks=16",)),
    "groups-32": ("weak", ("rollout.tasks=2", "rollout.group_size=32")),
    "epochs-2": ("weak", ("algorithm.epochs=2", "optimiser.minibatch_responses=200")),
    "thoughts": ("thoughts", ()),
    "small": ("small", ()),
    "quickstart": ("quickstart", ()),
    "webshop": ("webshop", ("algorithm.aggregate=response_mean",)),
}
"""Where the baseline's entropy may collapse early: a start, and what differs from it in RL."""
SCREENS = tuple(
    Study(
        name=f"screen-{name}",
        question=f"Does the baseline's entropy collapse early ({name})?",
        start=start,
        arms={"off": Arm((OFF, *settings))},
        contrasts=(),
        seeds=(900, 901),
        split="test" if start == "webshop" else "valid_unseen",
        tasks=100,
    )
    for name, (start, settings) in REGIMES.items()
)

STUDIES: Mapping[str, Study] = MappingProxyType(
    {study.name: study for study in (PRIMARY, BALANCE, SECONDARY, CRITIC, ABLATIONS, LONG, LOSS, *SCREENS)}
)
