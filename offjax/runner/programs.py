"""The compiled programs of a stage: initialise, train a chunk, evaluate.

Each is compiled once, ahead of time, for all slots; the number of updates of a chunk
is an argument, so that any chunk fits the same program.
"""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offjax.evaluation import rollout
from offjax.runner.devices import Layout, lift
from offjax.runner.rounding import PRECISIONS
from offjax.types import EnvSpec, Key, Params, Pytree, Stage

SAMPLER_STREAM = 0x5A17  # keeps the batches' randomness apart from the updates'


class Program:
    """A lifted function, compiled at its first call, or before."""

    def __init__(
        self, fn: Callable[..., Pytree], layout: Layout, replaced: Sequence[str] = ()
    ) -> None:
        """See `lift`.

        Args:
          fn: of one slot.
          layout: where the slots run.
          replaced: entries of `slots` that the first results take the place of: under
            "map" a call uses their arrays up.
        """
        # vmapped slots are updated together, and keep their old values till the end.
        self._replaced = tuple(replaced) if layout.kind == "map" else ()
        self._lifted = lift(fn, layout, self._replaced)
        self._counts = layout.counts()
        self._precision = PRECISIONS[layout.precision]
        self._compiled: Any = None
        self.compile_seconds = 0.0
        self.compilations = 0

    def __call__(self, slots: Pytree, shared: Pytree) -> Pytree:
        """Dispatches on sharded `slots` and replicated `shared`."""
        self.compile(slots, shared)
        return self._compiled(*self._arguments(slots, shared))

    def compile(self, slots: Pytree, shared: Pytree) -> None:
        """Compiles it, if it is not yet, for arrays (or shapes) like these."""
        if self._compiled is not None:
            return
        begin = time.perf_counter()
        with jax.default_matmul_precision(self._precision):
            lowered = self._lifted.lower(*self._arguments(slots, shared))
        self._compiled = lowered.compile()
        self.compile_seconds += time.perf_counter() - begin
        self.compilations += 1

    def _arguments(self, slots: Pytree, shared: Pytree) -> tuple[Any, ...]:
        old = [slots[name] for name in self._replaced]
        if self._replaced:
            slots = {k: v for k, v in slots.items() if k not in self._replaced}
        return (self._counts, slots, shared, *old)


def stage_key(stage: str, seed: Any) -> Key:
    """Key of a stage's state: of the seed's number and the stage's name alone."""
    return jax.random.fold_in(jax.random.PRNGKey(seed), zlib.crc32(stage.encode()))


def stack_configs(config: Any, values: Sequence[dict[str, Any]]) -> Any:
    """One config whose traced leaves have a leading axis [slots]."""
    configs = [dataclasses.replace(config, **v) for v in values]
    return jax.tree.map(lambda *leaves: np.asarray(leaves, np.float32), *configs)


def init_program(stage: Stage, layout: Layout) -> Program:
    """`slots` {seed, config, context, data?} → states."""

    def init(slot: Pytree, shared: Pytree) -> Pytree:
        data = slot["data"] if stage.data_per_seed else shared["data"]
        key = stage_key(stage.name, slot["seed"])
        return stage.algorithm.init(key, data, slot["config"], slot["context"])

    return Program(init, layout)


def chunk_program(stage: Stage, layout: Layout) -> Program:
    """`slots` {state, alive, config, context, data?}, `shared` {data, num_updates}.

    Returns (states, alive, mean metrics). A slot whose metrics or state are not
    finite at the chunk's end gets its state from before the chunk back, and is
    frozen: `alive` turns False. Under "map" the new states take the memory of those
    that are given, which are gone afterwards.
    """

    def chunk(slot: Pytree, shared: Pytree) -> Pytree:
        data = slot["data"] if stage.data_per_seed else shared["data"]
        config, context = slot["config"], slot["context"]

        def step(state: Pytree) -> Pytree:
            key = jax.random.fold_in(state.key, SAMPLER_STREAM)
            key = jax.random.fold_in(key, state.step)
            batch = stage.sampler(data, key, config)
            return stage.algorithm.update(state, batch, config, context)

        def body(_: Any, carry: Pytree) -> Pytree:
            state, sums = carry
            state, metrics = step(state)
            return state, jax.tree.map(jnp.add, sums, metrics)

        # A scan whose length is an argument: no masked tail, one compilation.
        updates = shared["num_updates"]
        if layout.kind == "map":
            updates = jnp.where(slot["alive"], updates, 0)
        _, metrics = jax.eval_shape(step, slot["state"])
        zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)
        state, sums = jax.lax.fori_loop(0, updates, body, (slot["state"], zeros))
        means = jax.tree.map(lambda s: s / jnp.maximum(updates, 1), sums)
        alive = slot["alive"] & _finite(means) & _finite(state)
        state = jax.tree.map(lambda n, o: jnp.where(alive, n, o), state, slot["state"])
        return state, alive, means

    return Program(chunk, layout, replaced=("state", "alive"))


def _finite(tree: Pytree) -> jax.Array:
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    if not leaves:  # a reduction of nothing, inside a loop, crashes jax 0.11 on CPUs
        return jnp.bool_(True)
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in leaves]))


def evaluation_program(
    agent: rollout.Agent, env: Any, spec: EnvSpec, episodes: int, layout: Layout
) -> Program:
    """`slots` {params, seed}, `shared` {eval_seed} → (returns, lengths) [slots, E]."""
    evaluate = rollout.evaluate_slot(agent, env, spec, episodes)

    def run(slot: Pytree, shared: Pytree) -> Pytree:
        key = rollout.slot_key(slot["seed"], shared["eval_seed"])
        params: Params = slot["params"]
        return evaluate(params, key)

    return Program(run, layout)
