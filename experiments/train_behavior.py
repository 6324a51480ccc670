"""Trains the policies that collect a robot's data.

    python -m experiments.train_behavior --robot=hopper --out=/data/behavior/hopper

One command trains, takes and scores snapshots, chooses the expert and the medium
policy, and writes them with their provenance to `<out>/policies`;
`--policies_dir=offjax/behavior/policies/v1` puts them in the place of the packaged
ones. The robot ant_goal has an expert alone, which belongs in
`offjax/behavior/policies`. Started again, it goes on from its last checkpoint, also
with another --num_steps; SIGTERM saves one and exits.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from absl import flags

from offjax.behavior import packaging, sac, training
from offjax.cli import command as cli
from offjax.envs import mujoco
from offjax.errors import UserError
from offjax.runner import interrupts

NUM_STEPS = {
    "hopper": 1_200_000,
    "halfcheetah": 2_800_000,
    "walker2d": 2_400_000,
    "ant": 2_000_000,
    "ant_goal": 120_000,
}
"""Environment steps by default."""

_ROBOT = flags.DEFINE_enum(
    "robot", None, sorted(NUM_STEPS), "Which robot; ant_goal walks through AntMaze."
)
_OUT = flags.DEFINE_string("out", None, "Folder of checkpoint, snapshots and scores.")
_STEPS = cli.define_count("num_steps", None, "Environment steps; else per robot.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything.", 0)
_RATIO = flags.DEFINE_float("update_ratio", 0.25, "Updates per environment step.", 0)
_ENVS = flags.DEFINE_integer("num_envs", 32, "Episodes side by side.", 1)
_BATCH = flags.DEFINE_integer("batch_size", 128, "Rows per update.", 1)
_WARMUP = flags.DEFINE_integer("warmup", 10_000, "Steps of random actions.", 1)
_SNAPSHOTS = flags.DEFINE_integer("num_snapshots", 100, "Snapshots of the policy.", 2)
_BFLOAT16 = flags.DEFINE_bool(
    "bfloat16",
    False,
    "Multiply hidden layers in bfloat16: faster where the processor has such products "
    "(AMX, accelerators), slower elsewhere.",
)
_POLICIES = flags.DEFINE_string(
    "policies_dir", None, "Where the chosen policies go; else <out>/policies."
)


def main(argv: list[str]) -> None:
    """Trains what the flags name."""
    del argv
    if _ROBOT.value is None or _OUT.value is None:
        raise UserError(
            "--robot and --out are needed: the robot to train, and a folder for its "
            "checkpoint and snapshots."
        )
    if not mujoco.has_engine():
        raise UserError(
            "Training steps many robots at once with mujoco.batch, which is not "
            "installed. Run `pip install 'offjax[mujoco]'` (MuJoCo 3.17 or later)."
        )
    plan = training.Plan(
        robot=_ROBOT.value,
        num_steps=_STEPS.value or NUM_STEPS[_ROBOT.value],
        update_ratio=_RATIO.value,
        num_envs=_ENVS.value,
        warmup=_WARMUP.value,
        num_snapshots=_SNAPSHOTS.value,
        seed=_SEED.value,
        algorithm=sac.Config(batch_size=_BATCH.value, bfloat16=_BFLOAT16.value),
    )
    out = Path(_OUT.value)
    interrupts.listen()
    if not training.Training(plan, out).run(interrupts.requested):
        raise interrupts.Interrupted
    target = Path(_POLICIES.value) if _POLICIES.value else out / "policies"
    command = shlex.join(
        ["python", "-m", "experiments.train_behavior"]
        + [a for a in sys.argv[1:] if not a.startswith(("--out", "--policies_dir"))]
    )
    for row in packaging.package(plan, out, target, command):
        print(f"{row['snapshot']}  {row['roles']:14}  score {row['score']:.1f}")


if __name__ == "__main__":
    cli.run(main)
