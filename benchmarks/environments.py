"""Steps per second of the environments that run on device.

    python -m benchmarks.environments [--sizes=1,32,256,4096] [--json=FILE]

Each number is the best of `--repeats` timings of one compiled scan over `--steps`
steps (in all), with random actions that are drawn beforehand, on one device.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks.harness import opening, write
from offjax import envs
from offjax.cli import command as cli
from offjax.envs import budget, maze2d
from offjax.types import EnvSpec

SIZES = flags.DEFINE_list("sizes", ["1", "32", "256", "4096"], "numbers of episodes")
STEPS = flags.DEFINE_integer("steps", 1_000_000, "steps per timing, in all", 1)
REPEATS = flags.DEFINE_integer("repeats", 3, "timings per number", 1)
JSON = flags.DEFINE_string("json", None, "file to write the numbers to")

SPECS = {
    **{f"maze2d-{maze}": maze2d.spec(maze) for maze in maze2d.MAZES},
    **{f"budget-t{horizon}": budget.spec(horizon) for horizon in (50, 200)},
}


def steps_per_second(spec: EnvSpec, size: int, steps: int, repeats: int) -> float:
    """Best rate of `repeats` timings of `steps` steps over `size` episodes at once."""
    env = envs.make(spec)
    length = max(steps // size, 1)
    keys = jax.random.split(jax.random.key(0), size)
    low, high = jnp.asarray(spec.action_low), jnp.asarray(spec.action_high)
    shape = (length, size, spec.action_dim)
    actions = jax.random.uniform(jax.random.key(1), shape, minval=low, maxval=high)

    def step(state, action, key):
        new = env.transition(state, action, key)
        return new, env.reward(state, action, new, key)

    @jax.jit
    def run(actions):
        def body(states, actions):
            states, rewards = jax.vmap(step)(states, actions, keys)
            return states, rewards.mean()

        return jax.lax.scan(body, jax.vmap(env.initial)(keys), actions)

    jax.block_until_ready(run(actions))
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run(actions))
        best = min(best, time.perf_counter() - start)
    return length * size / best


def main(_: list[str]) -> None:
    """Prints a table and writes the numbers."""
    found, sizes = opening(), [int(size) for size in SIZES.value]
    device = jax.devices()[0]
    print(f"Million steps per second on one device ({device.device_kind}).")
    print(f"{'episodes':16}" + "".join(f"{size:>9}" for size in sizes))
    rates: dict[str, dict[str, float]] = {}
    for name, spec in SPECS.items():
        rates[name] = {
            str(size): steps_per_second(spec, size, STEPS.value, REPEATS.value)
            for size in sizes
        }
        row = "".join(f"{rate / 1e6:9.2f}" for rate in rates[name].values())
        print(f"{name:16}{row}", flush=True)
    write(JSON.value, {"machine": found, "steps_per_second": rates})


if __name__ == "__main__":
    cli.run(main)
