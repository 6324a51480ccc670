"""Steps per second of the batched MuJoCo engine beside one Gymnasium environment.

    python -m benchmarks.mujoco_batch [--num_envs=256] [--json=FILE]

AntMaze's peer is Gymnasium-Robotics' AntMaze_UMaze-v5 (extra `robotics`), which has
another ant, shorter time steps and Dict observations; without it the row is left out.

Both are timed in this process on the same machine, in turns, with the same random
actions and with resets where a robot falls; the best of `--repeats` timings counts. The
engine uses every core at hand, Gymnasium one. Robots under random actions fall soon, so
Hopper's and Walker2d's numbers hold many resets; `--policy=expert` runs the packaged
expert instead, whose own time is left out.
"""

from __future__ import annotations

import importlib.util
import time

import gymnasium
import numpy as np
from absl import flags

from benchmarks.harness import opening, write
from offjax.behavior import policies
from offjax.cli import command as cli
from offjax.envs import antmaze, mujoco
from offjax.envs.batched import make_batched
from offjax.envs.processes import cores
from offjax.types import EnvSpec

ROBOTS = flags.DEFINE_list(
    "robots", ["hopper", "halfcheetah", "walker2d", "antmaze"], "robots, or antmaze"
)
NUM_ENVS = flags.DEFINE_integer("num_envs", 256, "episodes side by side", 1)
SECONDS = flags.DEFINE_float("seconds", 2.0, "length of a timing", 0.01)
REPEATS = flags.DEFINE_integer("repeats", 3, "timings per number", 1)
POLICY = flags.DEFINE_enum("policy", "random", ["random", "expert"], "who acts")
JSON = flags.DEFINE_string("json", None, "file to write the numbers to")


def spec_of(robot: str) -> EnvSpec:
    """What is timed."""
    return antmaze.spec("umaze") if robot == "antmaze" else mujoco.spec(robot)


def peer_of(robot: str) -> gymnasium.Env | None:
    """The single environment beside it; None where it is not installed."""
    if robot == "antmaze":
        if importlib.util.find_spec("gymnasium_robotics") is None:
            return None
        importlib.import_module("gymnasium_robotics")  # registers its environments
        return gymnasium.make("AntMaze_UMaze-v5")
    with mujoco.quiet():
        return gymnasium.make(mujoco.spec(robot).id)


def actions_of(robot: str, observations: np.ndarray) -> np.ndarray:
    """Actions [n, A] for observations [n, O] by the chosen policy."""
    if POLICY.value == "expert" and robot != "antmaze":
        return policies.for_role(robot, "expert")[0].mode(observations)
    dim = spec_of(robot).action_dim
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (len(observations), dim)).astype(np.float32)


def batched_rate(robot: str, num_envs: int, seconds: float) -> float:
    """Steps per second of `num_envs` episodes on the engine."""
    spec = spec_of(robot)
    env = make_batched(spec, num_envs)
    places = np.arange(num_envs)
    observations = env.reset(places, range(num_envs))
    lengths = np.zeros(num_envs, int)
    steps, spent = 0, 0.0
    while spent < seconds:
        actions = actions_of(robot, observations)
        start = time.perf_counter()
        observations, _, terminals = env.step(places, actions)
        lengths += 1
        over = np.flatnonzero(terminals | (lengths >= spec.horizon))
        if over.size:
            observations[over] = env.reset(over, [int(i) + steps for i in over])
            lengths[over] = 0
        spent += time.perf_counter() - start
        steps += num_envs
    env.close()
    return steps / spent


def single_rate(robot: str, env: gymnasium.Env, seconds: float) -> float:
    """Steps per second of one Gymnasium environment."""
    observation, _ = env.reset(seed=0)
    steps, spent = 0, 0.0
    while spent < seconds:
        flat = gymnasium.spaces.flatten(env.observation_space, observation)
        action = actions_of(robot, np.asarray(flat, np.float32)[None])[0]
        start = time.perf_counter()
        observation, _, terminal, truncated, _ = env.step(action)
        if terminal or truncated:
            observation, _ = env.reset()
        spent += time.perf_counter() - start
        steps += 1
    return steps / spent


def main(_: list[str]) -> None:
    """Prints a table and writes the numbers."""
    found = opening()
    print(f"{NUM_ENVS.value} environments on {cores()} cores, steps per second")
    print(f"{'robot':14}{'batched':>10}{'gymnasium':>12}{'ratio':>8}")
    rates: dict[str, dict[str, float]] = {}
    for robot in ROBOTS.value:
        peer = peer_of(robot)
        if peer is None:
            print(f"{robot:14}left out: gymnasium_robotics is not installed")
            continue
        pairs = [
            (
                batched_rate(robot, NUM_ENVS.value, SECONDS.value),
                single_rate(robot, peer, SECONDS.value),
            )
            for _ in range(REPEATS.value)
        ]
        peer.close()
        batched, single = (max(column) for column in zip(*pairs, strict=True))
        ratio = batched / single
        rates[robot] = {"batched": batched, "gymnasium": single, "ratio": ratio}
        print(f"{robot:14}{batched:10,.0f}{single:12,.0f}{ratio:8.2f}", flush=True)
    result = {"machine": found, "num_envs": NUM_ENVS.value, "policy": POLICY.value}
    write(JSON.value, result | {"steps_per_second": rates})


if __name__ == "__main__":
    cli.run(main)
