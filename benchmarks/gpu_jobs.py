"""What benchmarks.gpu measures: its jobs, in the order of their value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from offjax.errors import UserError

Result = dict[str, Any]
Setting = dict[str, list[Any]]
TARGET: Setting = {"return_target": [1.0]}
STAGES: dict[str, Setting] = {
    # The goals
    "td3_bc": {},
    "iql": {},
    # Action Sequence Planner, CFPI, Action Gradient, Language Control Diffusion
    "asp": {},
    "cfpi:bc": {},
    "cfpi:sarsa": {},
    "reinformer": {},
    "decision_transformer": TARGET,
    "dt_ag:critic": TARGET,
    "lcd:hulc": {},
    "lcd:planner": {},
    # Baselines
    "bc": {},
    "cql": {},
    "rebrac": {},
    "awac": {},
    "bcq": {},
    "fql": {},
    "tdmpc2": {},
    # Further stages of the four
    "idet_vae:bc_vae": {},
    "iterative_cfpi:critic": {},
    "multistep_cfpi:block_1": {},
    "rev_kl:rev_kl": {},
    "reinformer_pg:reinformer": {},
    "lcd_mlp:planner": {},
    "gcbc": {},
    "mcil": {},
    "diffuser:vae": {},
    "diffuser:planner": {},
}
"""METHOD:STAGE → settings that it needs where there is no environment."""
GOALS = 2
"""So many of `STAGES` come before all else."""
SYSTEMS = 10
"""So many, the goals among them, come before flags, memory and precision."""
LARGE = (
    "reinformer", "reinformer_pg:reinformer", "lcd:hulc", "lcd:planner",
    "lcd_mlp:planner", "bcq", "fql", "tdmpc2", "idet_vae:bc_vae", "gcbc", "mcil",
    "diffuser:planner",
)  # fmt: skip
"""Stages of more than ten megabytes a seed, which need the device for themselves."""
FEW_ROWS = dict.fromkeys(
    ("multistep_cfpi:block_1", "lcd:planner", "lcd_mlp:planner", "diffuser:planner"),
    5000,
)
"""Rows of stages whose every seed has data of its own."""
FLAGS = {
    "none": "",
    "deterministic": "--xla_gpu_deterministic_ops=true",
    "exclude": "--xla_gpu_exclude_nondeterministic_ops=true",
}
SECTIONS = (
    "training", "column", "resume", "evaluation", "peers", "flags", "memory",
    "precision",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the measurements are."""

    preset: str = "paper"
    counts: tuple[int, ...] = (1, 16, 64, 256)  # seeds
    many: int = 64  # seeds of flags, memory and precision
    rows: int = 100_000
    seconds: float = 0.3  # of a timing
    rounds: int = 3
    column_seeds: int = 10
    updates: int = 2000  # of a training whose states are compared
    run_seeds: int = 10  # of a run
    steps: int = 20_000  # of an evaluated run
    eval_every: int = 5000
    episodes: int = 10  # of each evaluation, for each seed
    peer_updates: int = 4000


TINY = Sizes(
    preset="demo", counts=(1, 2), many=1, rows=1000, seconds=0.02, rounds=1,
    column_seeds=1, updates=100, run_seeds=2, steps=100, eval_every=50, episodes=1,
    peer_updates=16,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Step:
    """What one process does: a job of gpu_worker, and a flag of XLA that it has."""

    work: Result
    flag: str = ""


@dataclasses.dataclass(frozen=True)
class Job:
    """A result: its place, and the processes whose findings it is made of, in turn.

    `peer` is a peer's command instead.
    """

    section: str
    name: str
    steps: tuple[Step, ...] = ()
    join: Callable[[Sequence[Result]], Result] = lambda found: found[0]
    peer: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether nothing else may be on the device while it prepares or works."""
        return bool(self.peer) or self.name in LARGE

    @property
    def title(self) -> str:
        """As it is told."""
        return f"{self.section} of {self.name}"


def stages_of(names: Sequence[str]) -> list[str]:
    """Those of `STAGES` that were asked for.

    Raises:
      UserError: an unknown one.
    """
    for name in names:
        if name not in STAGES:
            raise UserError(
                f"--algorithms={name}: there is no such stage here. These are timed: "
                f"{', '.join(STAGES)}."
            )
    return [name for name in STAGES if name in names]


def plan(
    sections: Sequence[str], stages: Sequence[str], sizes: Sizes, folder: str,
    peers: Mapping[str, Mapping[str, Sequence[str]]],
) -> list[Job]:  # fmt: skip
    """All jobs of the sections, the most valuable first.

    Args:
      sections: names of `SECTIONS`.
      stages: names of `STAGES`, in their order.
      sizes: of all.
      folder: for runs.
      peers: algorithm → name → command of a peer.

    Raises:
      UserError: an unknown section.
    """
    for section in sections:
        if section not in SECTIONS:
            raise UserError(
                f"--sections={section}: there is no such section: "
                f"{', '.join(SECTIONS)}."
            )
    order = [name for name in STAGES if name in stages]
    trainings = {name: training(name, sizes) for name in order}
    first, second = list(STAGES)[:GOALS], list(STAGES)[GOALS:SYSTEMS]
    jobs = [trainings[name] for name in order if name in first]
    jobs += [column(sizes), *resume(sizes, folder), evaluation(sizes, folder)]
    jobs += [
        Job("peers", f"{algorithm}, {name}", peer=tuple(command))
        for algorithm, commands in peers.items()
        for name, command in commands.items()
    ]
    jobs += [trainings[name] for name in order if name in second]
    jobs += [*flags(sizes), *memory(sizes), *precision(sizes)]
    jobs += [trainings[name] for name in order if name not in (*first, *second)]
    return [job for job in jobs if job.section in sections]


def _work(kind: str, stage: str, sizes: Sizes, **more: Any) -> Result:
    return {
        "kind": kind,
        "stage": stage,
        "preset": sizes.preset,
        "rows": min(sizes.rows, FEW_ROWS.get(stage, sizes.rows)),
        "seconds": sizes.seconds,
        "rounds": sizes.rounds,
        "overrides": STAGES[stage],
        "alone": stage in LARGE,
        **more,
    }


def training(stage: str, sizes: Sizes) -> Job:
    """A stage at several numbers of seeds."""
    work = _work("training", stage, sizes, counts=sizes.counts)
    return Job("training", stage, (Step(work),))


def column(sizes: Sizes) -> Job:
    """Nine datasets × seeds of TD3+BC."""
    work = _work("column", "td3_bc", sizes, seeds=sizes.column_seeds)
    return Job("column", "td3_bc", (Step(work),))


def resume(sizes: Sizes, folder: str) -> list[Job]:
    """A run, the same run interrupted, and its rest: are the states equal?"""

    def joined(found: Sequence[Result]) -> Result:
        whole, cut, rest = found
        if not cut["stopped"]:
            raise UserError("the run ended before it could be interrupted.")
        return {"same states": whole["states"] == rest["states"]}

    jobs = []
    for stage in ("td3_bc", "decision_transformer"):
        work = _work(
            "resume", stage, sizes, seeds=sizes.run_seeds, updates=sizes.updates
        )
        ways = (("whole", False, False), ("cut", True, False), ("cut", False, True))
        steps = tuple(
            Step(work | {"runs_dir": f"{folder}/{stage}/{name}"}
                 | {"stop": stop, "resume": resumed})
            for name, stop, resumed in ways
        )  # fmt: skip
        jobs.append(Job("resume", stage, steps, joined))
    return jobs


def evaluation(sizes: Sizes, folder: str) -> Job:
    """A run that is evaluated before the next chunk, beside it, and at its end only."""
    ways = {
        "before": ("off", sizes.eval_every),
        "beside": ("on", sizes.eval_every),
        "at the end only": ("off", sizes.steps),
    }
    work = _work(
        "evaluation", "td3_bc", sizes, seeds=sizes.run_seeds, updates=sizes.steps,
        dataset="offjax/halfcheetah/medium-v0", episodes=sizes.episodes,
        runs_dir=f"{folder}/evaluated",
    )  # fmt: skip
    steps = tuple(
        Step(work | {"behind": behind, "eval_every": every})
        for behind, every in ways.values()
    )
    return Job(
        "evaluation", "td3_bc", steps, lambda found: dict(zip(ways, found, strict=True))
    )


def flags(sizes: Sizes) -> list[Job]:
    """Flags of XLA that make results repeatable, and their price."""

    def joined(found: Sequence[Result]) -> Result:
        named = dict(zip(FLAGS, found, strict=True))
        free = named["none"]["rate"]["median"]
        return {
            name: {
                "flag": FLAGS[name],
                "rate": each["rate"]["median"],
                "ratio": each["rate"]["median"] / free,
                "equal again": each["equal again"],
                "compile seconds": each["compile seconds"],
            }
            for name, each in named.items()
        }

    jobs = []
    for stage in ("td3_bc", "iql", "decision_transformer"):
        work = _work("flags", stage, sizes, seeds=sizes.many, updates=sizes.updates)
        steps = tuple(Step(work, flag) for flag in FLAGS.values())
        jobs.append(Job("flags", stage, steps, joined))
    return jobs


def memory(sizes: Sizes) -> list[Job]:
    """The estimate before a run beside what it takes."""
    jobs = []
    stages = "td3_bc", "cql", "decision_transformer"
    seeds_of = [("td3_bc", sizes.counts[-1]), *((s, sizes.many) for s in stages)]
    for stage, seeds in seeds_of:
        work = _work("memory", stage, sizes, seeds=seeds, updates=20)
        jobs.append(Job("memory", f"{stage}, seeds: {seeds}", (Step(work),)))
    return jobs


def precision(sizes: Sizes) -> list[Job]:
    """Rates by the rounding of products."""

    def joined(found: Sequence[Result]) -> Result:
        cells = [cell for each in found for cell in each.values()]
        for cell in cells:
            if "failed" in cell:
                raise UserError(cell["failed"])
        rates = [cell["rate"]["median"] for cell in cells]
        return {
            name: {"rate": rate, "ratio": rate / rates[0]}
            for name, rate in zip(names, rates, strict=True)
        }

    names = ("float32", "tf32", "bfloat16")
    jobs = []
    for stage in ("td3_bc", "cql", "decision_transformer"):
        work = _work("precision", stage, sizes, counts=[sizes.many])
        steps = tuple(Step(work | {"precision": name}) for name in names)
        jobs.append(Job("precision", stage, steps, joined))
    return jobs
