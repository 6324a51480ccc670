"""Steps per second of evaluation in MuJoCo, policy included, beside a plain loop.

    python -m benchmarks.evaluation [--num_seeds=10] [--episodes=10] [--json=FILE]
        [--envpool_python=/path/to/python]

A policy of two hidden layers of 256 acts in seeds × episodes, for `--steps` steps each.
Falls do not end an episode here, so that every setting does the same work. The loops
beside it step one Gymnasium environment on one core: as one would write it, the policy
compiled by JAX and called at every step ("loop"), and with the policy in bare NumPy
("numpy"), which is about as fast as one environment can be. "engine" is the simulator
alone, on as many places and cores as the evaluation, under the same policy's actions,
recorded before: the limit of any evaluation here. EnvPool, in an interpreter that has
it, steps as many environments with the same policy in NumPy
(benchmarks/peers/envpool_steps.py), in one process with all cores as its threads, and
in a process per core. Each number is the best of `--repeats`.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import processes
from benchmarks.harness import opening, write
from offjax.cli import command as cli
from offjax.devices.layout import choose_layout, prepare_host_devices
from offjax.distributions import Distribution, point
from offjax.envs import mujoco
from offjax.envs.batched import BatchedEnv, make_batched, make_one
from offjax.envs.processes import cores
from offjax.evaluation import host
from offjax.evaluation.batched import BatchedAgent
from offjax.evaluation.rollout import Agent
from offjax.methods.common import Memoryless
from offjax.types import EnvSpec, Method, Model, Params

NUM_SEEDS = flags.DEFINE_integer("num_seeds", 10, "seeds", 1)
EPISODES = flags.DEFINE_integer("episodes", 10, "episodes of each seed", 1)
STEPS = flags.DEFINE_integer("steps", 1000, "steps of each episode", 1)
LOOP_STEPS = flags.DEFINE_integer("loop_steps", 5000, "steps of the plain loop", 1)
REPEATS = flags.DEFINE_integer("repeats", 3, "timings per number", 1)
ROBOTS = flags.DEFINE_list("robots", ["hopper", "halfcheetah", "walker2d"], "robots")
ENVPOOL = flags.DEFINE_string("envpool_python", None, "interpreter that has EnvPool")
JSON = flags.DEFINE_string("json", None, "file to write the numbers to")

WIDTH = 256


def act(model: Model, observation: Any, key: Any) -> Distribution:
    """tanh of a network with two hidden layers, as a point."""
    del key
    w = model.state
    hidden = jax.nn.relu(observation @ w[0])
    hidden = jax.nn.relu(hidden @ w[1])
    return point(jnp.tanh(hidden @ w[2]))


def _untrained(*args: Any) -> Any:
    raise AssertionError("a benchmark of acting trains nothing")


PERCEPTRON = Method("perceptron", 1, _untrained, _untrained, act)


def _params(weights: Sequence[Any]) -> Params:
    return Params({"perceptron": Model(PERCEPTRON, None, list(weights))})


class Endless:
    """A batched environment in which nothing is terminal."""

    def __init__(self, env: BatchedEnv) -> None:
        self._env = env
        self.num_envs, self.observation_dim = env.num_envs, env.observation_dim

    def reset(self, indices: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """As the environment's."""
        return self._env.reset(indices, seeds)

    def step(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As the environment's, but for the terminals."""
        observations, rewards, terminals = self._env.step(indices, actions)
        return observations, rewards, np.zeros_like(terminals)

    def close(self) -> None:
        """As the environment's."""
        self._env.close()


def weights(spec: EnvSpec, num_seeds: int) -> list[np.ndarray]:
    """Random weights of each seed's network, [seeds, in, out] each."""
    rng = np.random.default_rng(0)
    sizes = (spec.observation_dim, WIDTH, WIDTH, spec.action_dim)
    return [
        rng.normal(0, m**-0.5, (num_seeds, m, n)).astype(np.float32)
        for m, n in itertools.pairwise(sizes)
    ]


def _agent(spec: EnvSpec, num_seeds: int, episodes: int) -> BatchedAgent:
    layout = choose_layout(num_seeds)
    agent = Agent(Memoryless(stage="perceptron"))
    return BatchedAgent(agent, spec, episodes, layout)


def batched_rate(spec: EnvSpec, num_seeds: int, episodes: int, repeats: int) -> float:
    """Steps per second of an evaluation of all seeds, compiling excluded."""
    agent = _agent(spec, num_seeds, episodes)
    env = Endless(make_batched(spec, num_seeds * episodes))
    params = _params(weights(spec, num_seeds))

    def seconds(horizon: int) -> float:
        agent.load(params)
        begin = time.perf_counter()
        host.evaluate(agent, env, horizon, range(num_seeds), episodes)
        return time.perf_counter() - begin

    seconds(2)
    best = min(seconds(spec.horizon) for _ in range(repeats))
    env.close()
    return num_seeds * episodes * spec.horizon / best


class Recorded:
    """A batched environment that keeps the actions it is given."""

    def __init__(self, env: BatchedEnv) -> None:
        self._env = env
        self.num_envs, self.observation_dim = env.num_envs, env.observation_dim
        self.actions: list[np.ndarray] = []

    def reset(self, indices: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """As the environment's."""
        return self._env.reset(indices, seeds)

    def step(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As the environment's."""
        self.actions.append(actions)
        return self._env.step(indices, actions)

    def close(self) -> None:
        """As the environment's."""
        self._env.close()


def engine_rate(
    spec: EnvSpec, num_seeds: int, episodes: int, repeats: int
) -> float | None:
    """Steps per second of the engine's own call; None where there is no engine.

    Resets aside, with nothing read and no reward computed.
    """
    env = make_batched(spec, num_seeds * episodes)
    if not isinstance(env, mujoco.MujocoBatch):
        env.close()
        return None
    recorder = Recorded(Endless(env))
    agent = _agent(spec, num_seeds, episodes)
    agent.load(_params(weights(spec, num_seeds)))
    host.evaluate(agent, recorder, spec.horizon, range(num_seeds), episodes)
    places = np.arange(env.num_envs)

    def seconds() -> float:
        env.reset(places, [int(i) for i in places])
        begin = time.perf_counter()
        for actions in recorder.actions:
            env.advance(places, actions)
        return time.perf_counter() - begin

    best = min(seconds() for _ in range(repeats))
    env.close()
    return env.num_envs * spec.horizon / best


def numpy_policy(spec: EnvSpec) -> Callable[[np.ndarray], np.ndarray]:
    """The network for one observation, in NumPy."""
    w = [x[0] for x in weights(spec, 1)]

    def act(observation: np.ndarray) -> np.ndarray:
        hidden = np.maximum(observation @ w[0], 0)
        return np.tanh(np.maximum(hidden @ w[1], 0) @ w[2])

    return act


def jax_policy(spec: EnvSpec) -> Callable[[np.ndarray], np.ndarray]:
    """The network for one observation, compiled."""
    model = Model(PERCEPTRON, None, [jnp.asarray(x[0]) for x in weights(spec, 1)])

    @jax.jit
    def action(observation: jax.Array) -> jax.Array:
        return act(model, observation, None).mode()

    return lambda observation: np.asarray(action(observation))


def loop_rate(
    spec: EnvSpec,
    policy: Callable[[np.ndarray], np.ndarray],
    steps: int,
    repeats: int,
) -> float:
    """Steps per second of one Gymnasium environment."""
    env = make_one(spec)

    def seconds() -> float:
        observation, _ = env.reset(seed=0)
        begin = time.perf_counter()
        for t in range(1, steps + 1):
            observation, *_ = env.step(policy(observation.astype(np.float32)))
            if t % spec.horizon == 0:
                observation, _ = env.reset(seed=t)
        return time.perf_counter() - begin

    seconds()
    best = min(seconds() for _ in range(repeats))
    env.close()
    return steps / best


def envpool_rates(python: str, robot: str) -> dict[str, float]:
    """Steps per second of EnvPool, in its two arrangements."""
    seeds, episodes, steps = NUM_SEEDS.value, EPISODES.value, STEPS.value
    script = str(processes.PEERS / "envpool_steps.py")
    command = [python, script, robot, str(seeds), str(episodes), str(steps)]
    turns = [
        processes.rates(command, seeds * episodes * steps, sharing=1)
        for _ in range(REPEATS.value)
    ]
    return {f"EnvPool, {how}": max(turn[how] for turn in turns) for how in turns[0]}


def _ratios(rate: dict[str, float], cores: int) -> str:
    """What the rates come to, in words."""
    ratio = rate["batched"] / rate["loop"]
    text = f"  {ratio:.2f} times a loop, {ratio / cores:.2f} per core"
    if "engine" in rate:
        limit = rate["engine"] / rate["loop"] / cores
        share = rate["batched"] / rate["engine"]
        text += f"; the engine alone {limit:.2f} per core, of which {share:.0%}"
    pools = {name: x for name, x in rate.items() if name.startswith("EnvPool")}
    for name, other in pools.items():
        text += f"\n  {rate['batched'] / other:.2f} times {name} ({other:,.0f})"
    return text


def main(_: list[str]) -> None:
    """Prints a table and writes the numbers."""
    prepare_host_devices()
    num_cores, num_seeds, episodes = cores(), NUM_SEEDS.value, EPISODES.value
    found = opening()
    print(f"Steps per second, {num_seeds} seeds × {episodes} episodes.")
    print(f"{'robot':14}{'batched':>10}{'engine':>10}{'loop':>10}{'numpy':>10}")
    rates: dict[str, dict[str, float]] = {}
    for robot in ROBOTS.value:
        spec = dataclasses.replace(mujoco.spec(robot), horizon=STEPS.value)
        steps, repeats = LOOP_STEPS.value, REPEATS.value
        rate = {"batched": batched_rate(spec, num_seeds, episodes, repeats)}
        engine = engine_rate(spec, num_seeds, episodes, repeats)
        rate |= {} if engine is None else {"engine": engine}
        rate |= {
            "loop": loop_rate(spec, jax_policy(spec), steps, repeats),
            "numpy": loop_rate(spec, numpy_policy(spec), steps, repeats),
        }
        if ENVPOOL.value:
            rate |= envpool_rates(ENVPOOL.value, robot)
        numbers = "".join(
            f"{rate[name]:10,.0f}" if name in rate else f"{'–':>10}"
            for name in ("batched", "engine", "loop", "numpy")
        )
        print(f"{robot:14}{numbers}", flush=True)
        print(_ratios(rate, num_cores), flush=True)
        rates[robot] = rate
    stepped_by = "mujoco.batch" if mujoco.has_engine() else "gymnasium"
    result = {"machine": found, "num_seeds": num_seeds, "episodes": episodes}
    write(JSON.value, result | {"engine": stepped_by, "steps_per_second": rates})


if __name__ == "__main__":
    cli.run(main)
