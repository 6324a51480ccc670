"""Cost of planning: LCD's samplers beside Diffuser, per plan and per action.

    python -m benchmarks.planning [--preset=paper] [--batches=1,1000] [--json=FILE]

A plan is all that is computed when one is made, the U-Net's passes and their scan, for
plans of random latents with constant parameters: cost depends on neither. LCD plans a
subgoal, Diffuser actions, each every `replan` steps of its recipe: 8 for `lcd`, whose
scores are reported, and for Diffuser, 16 for the thesis' settings, in which the other
rows vary the sampler. Seconds per action share a plan's among those steps.

What Diffuser plans is executed as it is; LCD's subgoals are pursued by a low-level
policy, whose own cost is in the row below and in "in all": the preset's own, HULC for
`paper` and goal-conditioned cloning for the others. Its beginning with a new subgoal is
shared among the `replan` steps of `lcd`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from offjax.cli import command as cli
from offjax.datasets.text import encode
from offjax.errors import UserError
from offjax.methods import build, diffusion_planner
from offjax.methods.goals import goal_method
from offjax.methods.plans import Probe
from offjax.types import Model, Stage, Statistics

FLAGS = flags.FLAGS
OBSERVATION, ACTION, LATENT = 40, 5, 32
CHUNK = 125
"""Plans at once on CPUs, whose caches hold no more."""
SENTENCE, TOKENS = "put the cube into the drawer", 16
"""The instruction, with room for the longest single instruction of the scenes."""
SCORED, LOW_LEVEL = "lcd, as scored", "low-level policy"


class Cost(NamedTuple):
    """One measurement."""

    method: str
    batch: int
    passes: int  # of the network, per plan
    replan: int  # actions that share a plan
    parameters: int
    seconds_per_plan: float  # of the whole batch

    @property
    def seconds_per_action(self) -> float:
        """Of one environment."""
        return self.seconds_per_plan / self.batch / self.replan


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name → (recipe, changes to how it is sampled)."""
    return {
        SCORED: ("lcd", {}),
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


def planner(name: str, preset: str) -> tuple[Callable[..., Any], Model, int, int]:
    """(model, latents [B, Z], key) → plans, its model, network passes, replan."""
    method, changes = cases()[name]
    recipe = build(method, None, preset)
    config = recipe.config("planner")
    sampling = dataclasses.replace(recipe.acting["sampling"], **changes)
    moves = LATENT if method != "diffuser" else ACTION * config.stride
    text = encode([SENTENCE], max_tokens=TOKENS)
    width = moves + LATENT
    example: Any = SimpleNamespace(
        mean=np.zeros(width, np.float32),
        std=np.ones(width, np.float32),
        text=text,
        probe=Probe(
            np.zeros((1, OBSERVATION), np.float32), np.zeros((1, LATENT), np.float32)
        ),
    )
    key = jax.random.PRNGKey(0)
    state = blank(lambda: diffusion_planner.init(key, example, config, {}))
    model = Model(diffusion_planner.METHOD, config, state)
    one = jax.tree.map(lambda x: jnp.asarray(x[0]), text)

    def plan(model: Model, latents: jax.Array, key: jax.Array) -> jax.Array:
        def of(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
            latent, key = pair
            return diffusion_planner.plan(model, latent, one, key, sampling)

        pairs = latents, jax.random.split(key, len(latents))
        size = len(latents)
        if jax.default_backend() == "cpu":
            size = min(size, CHUNK)
        return jax.lax.map(of, pairs, batch_size=size)

    passes = len(diffusion_planner.sampler_steps(config, sampling).times)
    return plan, model, passes, sampling.replan


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
    plan, model, passes, replan = planner(name, preset)
    latents = jax.random.normal(jax.random.PRNGKey(1), (batch, LATENT))
    compiled = jax.jit(plan)
    key = jax.random.PRNGKey(2)
    spent = seconds(lambda: compiled(model, latents, key), least)
    size = sum(x.size for x in jax.tree.leaves(model.state.planner.params))
    return Cost(name, batch, passes, replan, size, spent)


def low_level(batch: int, preset: str, least: float) -> Cost:
    """The policy that pursues subgoals: one action, and its share of a beginning."""
    recipe = build("lcd", None, preset)
    stage, replan = recipe.stages[0], recipe.acting["sampling"].replan
    model = _blank_policy(stage)
    method = goal_method(model)
    observations = jnp.zeros((batch, OBSERVATION))
    latents = jnp.zeros((batch, LATENT))
    keys = jax.random.split(jax.random.PRNGKey(0), batch)

    @jax.jit
    def begin(model: Model) -> Any:
        def one(observation: jax.Array, latent: jax.Array, key: jax.Array) -> Any:
            return method.begin(model, observation, latent, key)

        return jax.vmap(one)(observations, latents, keys)

    @jax.jit
    def act(model: Model, carry: Any) -> Any:
        def one(carry: Any, seen: jax.Array, latent: jax.Array, key: jax.Array) -> Any:
            found, carry = method.act_towards(model, carry, seen, latent, key)
            return found.mode(), carry

        return jax.vmap(one)(carry, observations, latents, keys)

    carry = begin(model)
    spent = seconds(lambda: begin(model), least) / replan
    spent += seconds(lambda: act(model, carry), least)
    size = sum(x.size for x in jax.tree.leaves(model.state.actor.params))
    name = f"{LOW_LEVEL} {stage.name}"
    return Cost(name, batch, 1, 1, size, spent)


def _blank_policy(stage: Stage) -> Model:
    """A low-level policy of constants, of the size of a trained one."""
    box = np.ones(ACTION, np.float32)
    zeros, ones = np.zeros(OBSERVATION, np.float32), np.ones(OBSERVATION, np.float32)
    example = SimpleNamespace(
        statistics=Statistics(zeros, ones, -box, box),
        sentences=encode([SENTENCE]).sentence,
        observations=zeros[None],
    )
    key = jax.random.PRNGKey(0)
    state = blank(lambda: stage.method.init(key, example, stage.config, {}))
    return Model(stage.method, stage.config, state)


def costs(batch: int, preset: str, least: float) -> list[Cost]:
    """All planners at one batch size, Diffuser last but one, and the policy below."""
    measured = [measure(name, batch, preset, least) for name in cases()]
    return [*measured, low_level(batch, preset, least)]


def ratios(measured: list[Cost]) -> list[tuple[float, float]]:
    """How many times as long Diffuser takes per action: than planning, and in all.

    LCD's cost in all has that of the low-level policy in it.
    """
    below = measured[-1].seconds_per_action
    diffuser = next(c for c in measured if c.method.startswith("diffuser"))
    longest, found = diffuser.seconds_per_action, []
    for cost in measured:
        planning = cost.seconds_per_action
        in_all = planning + below * cost.method.startswith("lcd")
        found.append((longest / planning, longest / in_all))
    return found


def line(cost: Cost, ratio: tuple[float, float]) -> str:
    """One line for the reader."""
    return (
        f"{cost.method:22} batch {cost.batch:5}  passes {cost.passes:3}  "
        f"replan {cost.replan:3}  parameters {cost.parameters / 1e6:5.1f}M  "
        f"{cost.seconds_per_plan * 1e3:10.2f} ms per plan  "
        f"{cost.seconds_per_action * 1e6:9.1f} µs per action  "
        f"Diffuser takes {ratio[0]:6.1f} times as long, {ratio[1]:6.1f} in all"
    )


def main(argv: list[str]) -> None:
    """Prints one line per method and batch size, and how they compare."""
    del argv
    from benchmarks.harness import opening, write

    batches = [int(text) if text.isdecimal() else 0 for text in FLAGS.batches]
    if not batches or min(batches) < 1:
        raise UserError(f"--batches={','.join(FLAGS.batches)}: numbers from 1 on.")
    result: dict[str, Any] = {"machine": opening(), "preset": FLAGS.preset, "costs": []}
    for batch in batches:
        measured = costs(batch, FLAGS.preset, FLAGS.seconds)
        for cost, ratio in zip(measured, ratios(measured), strict=True):
            print(line(cost, ratio), flush=True)
            more = {"seconds_per_action": cost.seconds_per_action}
            more |= {"ratio": ratio[0], "ratio_in_all": ratio[1]}
            result["costs"].append(cost._asdict() | more)
    write(FLAGS.json, result)


if __name__ == "__main__":
    cli.define_preset("paper")
    flags.DEFINE_list("batches", ["1", "1000"], "Plans made at once.")
    flags.DEFINE_float("seconds", 2.0, "Least time of a measurement.", 0.0)
    flags.DEFINE_string("json", None, "File for the results.")
    cli.run(main)
