"""Cost of planning: LCD's samplers beside Diffuser, per plan and per action.

    python -m benchmarks.planning [--preset=paper] [--batches=1,1000] [--json]

A plan is all that is computed when one is made, the U-Net's passes and their scan, for
plans of random latents with constant parameters: cost depends on neither. LCD plans a
subgoal every `replan` steps, Diffuser a chunk of actions as long; seconds per action
share a plan's among those steps. A low-level policy's own cost, which LCD pays at every
step in addition, is measured too (goal-conditioned cloning of the same preset).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from offjax.algorithms import diffusion_planner, gcbc
from offjax.networks.language import encode
from offjax.recipes import build
from offjax.types import Statistics

_PRESET = flags.DEFINE_enum("preset", "paper", ["paper", "small", "demo"], "Sizes.")
_BATCHES = flags.DEFINE_list("batches", ["1", "1000"], "Plans made at once.")
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Least time of a measurement.")
_JSON = flags.DEFINE_bool("json", False, "One JSON object per line.")
OBSERVATION, ACTION, LATENT = 40, 5, 32
CHUNK = 125
"""Plans at once on CPUs, whose caches hold no more."""
SENTENCE = "put the cube into the drawer"


class Cost(NamedTuple):
    """One measurement."""

    method: str
    batch: int
    passes: int  # of the network, per plan
    replan: int  # actions that share a plan
    parameters: int
    seconds_per_plan: float  # of the whole batch
    seconds_per_action: float  # of one environment


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name → (recipe, changes to how it is sampled)."""
    return {
        "lcd ddim 5": ("lcd_thesis", {"sampler": "ddim", "sampling_steps": 5}),
        "lcd ddim 10": ("lcd_thesis", {"sampler": "ddim", "sampling_steps": 10}),
        "lcd ddpm 20": ("lcd_thesis", {"sampler": "ddpm"}),
        "lcd ddpm 20, one row": ("lcd_thesis", {"sampler": "ddpm", "rows": 1}),
        "diffuser ddpm 20": ("diffuser", {}),
    }


def blank(init: Callable[[], Any]) -> Any:
    """A state of constants: its size is all that matters here."""
    shapes = jax.eval_shape(init)
    return jax.tree.map(lambda s: jnp.full(s.shape, 0.01, s.dtype), shapes)


def planner(name: str, preset: str) -> tuple[Callable[..., Any], Any, int, int]:
    """A function (latents [B, Z], key) → plans, its state, network passes, replan."""
    recipe, changes = cases()[name]
    configs = {s.name: s.config for s in build(recipe, None, preset).stages}
    config = configs["planner"]
    sampling = dataclasses.replace(configs["sampling"], **changes)
    moves = LATENT if recipe != "diffuser" else ACTION * config.stride
    text = encode([SENTENCE])
    width = moves + LATENT
    example = SimpleNamespace(
        mean=np.zeros(width, np.float32),
        std=np.ones(width, np.float32),
        encoding=text,
        probe=diffusion_planner.Probe(
            np.zeros((1, OBSERVATION), np.float32), np.zeros((1, LATENT), np.float32)
        ),
    )
    key = jax.random.PRNGKey(0)
    state = blank(lambda: diffusion_planner.init(key, example, config, {}))
    one = jax.tree.map(lambda x: jnp.asarray(x[0]), text)

    def plan(state: Any, latents: jax.Array, key: jax.Array) -> jax.Array:
        def of(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
            latent, key = pair
            return diffusion_planner.plan(state, latent, one, key, config, sampling)

        pairs = latents, jax.random.split(key, len(latents))
        size = len(latents)
        if jax.default_backend() == "cpu":
            size = min(size, CHUNK)
        return jax.lax.map(of, pairs, batch_size=size)

    passes = len(diffusion_planner.sampler_steps(config, sampling).times)
    return plan, state, passes, sampling.replan


def seconds(call: Callable[[], Any], least: float) -> float:
    """Best time of a call, over at least `least` seconds, after one that compiles."""
    jax.block_until_ready(call())
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < least:
        start = time.perf_counter()
        jax.block_until_ready(call())
        best = min(best, time.perf_counter() - start)
    return best


def measure(name: str, batch: int, preset: str, least: float) -> Cost:
    """One planner at one batch size."""
    plan, state, passes, replan = planner(name, preset)
    latents = jax.random.normal(jax.random.PRNGKey(1), (batch, LATENT))
    compiled = jax.jit(plan)
    key = jax.random.PRNGKey(2)
    spent = seconds(lambda: compiled(state, latents, key), least)
    size = sum(x.size for x in jax.tree.leaves(state.params))
    return Cost(name, batch, passes, replan, size, spent, spent / batch / replan)


def low_level(batch: int, preset: str, least: float) -> Cost:
    """The policy that pursues subgoals: one chunk of actions."""
    recipe = build("gcbc_goal", None, preset)
    config = recipe.stages[0].config
    box = np.ones(ACTION, np.float32)
    zeros, ones = np.zeros(OBSERVATION, np.float32), np.ones(OBSERVATION, np.float32)
    statistics = Statistics(zeros, ones, -box, box)
    example = SimpleNamespace(statistics=statistics)
    state = blank(lambda: gcbc.init(jax.random.PRNGKey(0), example, config, {}))
    observations = jnp.zeros((batch, OBSERVATION))
    latents = jnp.zeros((batch, LATENT))
    call = jax.jit(lambda s: gcbc.chunk(s, observations, latents, config))
    spent = seconds(lambda: call(state), least)
    size = sum(x.size for x in jax.tree.leaves(state.params))
    per_action = spent / batch / config.execute
    return Cost("low-level policy", batch, 1, config.execute, size, spent, per_action)


def costs(batch: int, preset: str, least: float) -> list[Cost]:
    """All planners at one batch size, Diffuser last but one, and the policy below."""
    measured = [measure(name, batch, preset, least) for name in cases()]
    return [*measured, low_level(batch, preset, least)]


def ratios(measured: list[Cost]) -> list[float]:
    """How many times as long Diffuser takes per action."""
    diffuser = next(c for c in measured if c.method.startswith("diffuser"))
    return [diffuser.seconds_per_action / c.seconds_per_action for c in measured]


def line(cost: Cost, ratio: float) -> str:
    """One line for the reader."""
    return (
        f"{cost.method:22} batch {cost.batch:5}  passes {cost.passes:3}  "
        f"replan {cost.replan:3}  parameters {cost.parameters / 1e6:5.1f}M  "
        f"{cost.seconds_per_plan * 1e3:10.2f} ms per plan  "
        f"{cost.seconds_per_action * 1e6:9.1f} µs per action  "
        f"Diffuser takes {ratio:6.1f} times as long"
    )


def main(_: list[str]) -> None:
    """Prints one line per method and batch size, and how they compare."""
    if not _JSON.value:
        device = jax.devices()[0].device_kind
        print(f"device={device} preset={_PRESET.value}", flush=True)
    for batch in map(int, _BATCHES.value):
        measured = costs(batch, _PRESET.value, _SECONDS.value)
        for cost, ratio in zip(measured, ratios(measured), strict=True):
            record = json.dumps(cost._asdict() | {"ratio": ratio})
            print(record if _JSON.value else line(cost, ratio), flush=True)


if __name__ == "__main__":
    app.run(main)
