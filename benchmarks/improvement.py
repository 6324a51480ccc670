"""Rate of the closed-form mixture operator: one batched call beside a loop of states.

    python -m benchmarks.improvement [--states=65536] [--network_states=1024]
        [--json=FILE]

The critic is a pair of IQNs as CFPI acts with, and, to see the operator alone, a
quadratic. The loop calls the compiled operator for one state at a time, as an agent in
one environment does; "uncompiled" is the same loop without jit, on fewer states.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks.harness import opening, write
from offjax.cli import command as cli
from offjax.improvement import closed_form
from offjax.networks.iqn import IQNEnsemble

_STATES = flags.DEFINE_integer("states", 65_536, "States of the batched call.")
_NETWORK_STATES = flags.DEFINE_integer(
    "network_states", 1_024, "States of the batched call with the network."
)
_LOOP = flags.DEFINE_integer("loop_states", 200, "States of the loop.")
_CHUNK = flags.DEFINE_integer(
    "chunk", 256, "States at once with the network, whose activations fill memory."
)
_JSON = flags.DEFINE_string("json", None, "File for the numbers.")
COMPONENTS, ACTION, OBSERVATION, FRACTIONS = 4, 6, 17, 32


def problem(states: int) -> dict[str, jax.Array]:
    """Random mixtures, observations and targets for `states` states."""
    keys = jax.random.split(jax.random.PRNGKey(0), 5)
    shape = (states, COMPONENTS, ACTION)
    return {
        "logits": jax.random.normal(keys[0], shape[:2]),
        "means": jax.random.normal(keys[1], shape) * 0.5,
        "covs": jnp.exp(0.4 * jax.random.normal(keys[2], shape) - 2),
        "observation": jax.random.normal(keys[3], (states, OBSERVATION)),
        "target": jax.random.normal(keys[4], (states, ACTION)),
    }


def seconds(fn: Callable[[], jax.Array], repeats: int = 3) -> float:
    """Best time of `fn`, after one call that compiles."""
    jax.block_until_ready(fn())
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(fn())
        best = min(best, time.perf_counter() - begin)
    return best


def operators() -> dict[str, Callable[[dict[str, jax.Array]], jax.Array]]:
    """I_MG of one state by either critic."""
    network = IQNEnsemble()
    fractions = (jnp.arange(FRACTIONS) + 0.5) / FRACTIONS
    zeros = jnp.zeros(OBSERVATION), jnp.zeros(ACTION), fractions
    params = network.init(jax.random.PRNGKey(1), *zeros)

    def act(state: dict[str, jax.Array], q: Callable) -> jax.Array:
        u = closed_form.mixture(
            state["logits"], state["means"], state["covs"], q, 0.5, 0.05
        )
        return jnp.tanh(u)

    def quadratic(state: dict[str, jax.Array]) -> jax.Array:
        target = state["target"]
        return act(state, lambda u: -jnp.sum((jnp.tanh(u) - target) ** 2))

    def iqn(state: dict[str, jax.Array]) -> jax.Array:
        def q(u: jax.Array) -> jax.Array:
            values = network.apply(params, state["observation"], jnp.tanh(u), fractions)
            return jnp.min(jnp.mean(jnp.asarray(values), axis=-1))

        return act(state, q)

    return {"quadratic": quadratic, "iqn": iqn}


def measure(
    name: str, operator: Callable, data: dict[str, jax.Array]
) -> dict[str, float]:
    """States per second at once, in the loops, and how many times the loop's."""
    states = data["logits"].shape[0]
    chunk = states if name == "quadratic" else min(states, _CHUNK.value)
    batched = jax.jit(lambda x: jax.lax.map(operator, x, batch_size=chunk))
    single = jax.jit(operator)
    rows = [jax.tree.map(lambda x, i=i: x[i], data) for i in range(_LOOP.value)]
    at_once = states / seconds(lambda: batched(data))
    one_by_one = len(rows) / seconds(lambda: jnp.stack([single(r) for r in rows]))
    plain = 3 / seconds(lambda: jnp.stack([operator(r) for r in rows[:3]]), repeats=1)
    return {
        "states": states,
        "batched": at_once,
        "loop": one_by_one,
        "uncompiled_loop": plain,
        "ratio": at_once / one_by_one,
    }


def main(_: list[str]) -> None:
    """Prints one line per critic, and writes the numbers."""
    result: dict[str, Any] = {"machine": opening()}
    print(f"States per second, N={COMPONENTS} A={ACTION}")
    sizes = {"quadratic": _STATES.value, "iqn": _NETWORK_STATES.value}
    for name, operator in operators().items():
        found = result[name] = measure(name, operator, problem(sizes[name]))
        numbers = " ".join(f"{key}={value:,.1f}" for key, value in found.items())
        print(f"critic={name} {numbers}", flush=True)
    write(_JSON.value, result)


if __name__ == "__main__":
    cli.run(main)
