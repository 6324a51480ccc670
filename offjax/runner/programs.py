"""The programs of a stage: initialize, train a chunk, evaluate; for all slots at once.

Each is compiled once: the number of updates of a chunk is an argument.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offjax.devices.layout import Layout, Program
from offjax.errors import UserError
from offjax.evaluation import rollout
from offjax.types import EnvSpec, Key, Params, Pytree, Stage

SAMPLER_STREAM = 0x5A17  # keeps the batches' randomness apart from the updates'


def stage_key(stage: str, seed: Any) -> Key:
    """Key of a stage's state: of the seed's number and the stage's name alone."""
    return jax.random.fold_in(jax.random.PRNGKey(seed), zlib.crc32(stage.encode()))


def stack_configs(config: Any, values: Sequence[dict[str, Any]]) -> Any:
    """One config whose traced leaves have a leading axis [slots]."""
    configs = [dataclasses.replace(config, **v) for v in values]
    return jax.tree.map(lambda *leaves: np.asarray(leaves, np.float32), *configs)


Reads = Callable[[Pytree, Pytree], Pytree]
"""`(slot, shared) → data` of one slot."""


def reads_of(stage: Stage) -> Reads:
    """The data of a slot where all of them have one dataset."""
    if stage.view.per_seed:
        return lambda slot, shared: slot["data"]
    return lambda slot, shared: shared["data"]


def init_program(stage: Stage, layout: Layout, reads: Reads | None = None) -> Program:
    """`slots` {seed, config, upstream, …}, `shared` {data} → states."""
    reads = reads or reads_of(stage)

    def init(slot: Pytree, shared: Pytree) -> Pytree:
        data = reads(slot, shared)
        key = stage_key(stage.name, slot["seed"])
        return stage.method.init(key, data, slot["config"], slot["upstream"])

    return Program(init, layout)


CARRIED = ("state", "kept", "alive", "sums")
"""What a chunk takes and gives back of each slot."""


Reader = Callable[[Any, Pytree, Pytree, Pytree], Pytree]
"""`(i, state, data, slot) → batch` of a chunk's update `i`, for one slot."""


def chunk_program(
    stage: Stage,
    layout: Layout,
    reader: Reader | None = None,
    reads: Reads | None = None,
) -> Program:
    """`slots` {*CARRIED, config, upstream, …}, `shared` {data, a chunk's counts}.

    Returns the new values of `CARRIED` and the metrics' means over the window, which is
    done in one chunk or several. At its end a slot whose metrics or state are not
    finite gets back its state from the window's begin, `kept`, and is frozen: `alive`
    turns False. Under "map" the new values are written over the old ones.

    Batches are sampled from the data that `reads` gives of a slot, or are what
    `reader` gives.
    """
    read, reads = reader or _sampled(stage), reads or reads_of(stage)

    def chunk(slot: Pytree, shared: Pytree) -> Pytree:
        data = reads(slot, shared)

        def body(i: Any, carry: Pytree) -> Pytree:
            state, sums = carry
            state, metrics = _step(stage, state, read(i, state, data, slot), slot)
            return state, jax.tree.map(jnp.add, sums, metrics)

        # A scan whose length is an argument: no masked tail, one compilation.
        updates, closing = shared["num_updates"], shared["closing"]
        if layout.kind == "map":
            updates = jnp.where(slot["alive"], updates, 0)
        carry = slot["state"], slot["sums"]
        state, sums = jax.lax.fori_loop(0, updates, body, carry)
        total = jnp.maximum(shared["window_updates"], 1)
        means = jax.tree.map(lambda s: s / total, sums)
        alive = slot["alive"] & (~closing | (_finite(means) & _finite(state)))
        state = _where(alive | ~closing, state, slot["kept"])
        kept = _where(closing, state, slot["kept"])
        sums = jax.tree.map(lambda s: jnp.where(closing, 0, s), sums)
        return state, kept, alive, sums, means

    return Program(chunk, layout, replaced=CARRIED)


def _step(stage: Stage, state: Pytree, batch: Pytree, slot: Pytree) -> Pytree:
    """One update: (state, metrics)."""
    return stage.method.update(state, batch, slot["config"], slot["upstream"])


def sampler_key(key: Key, step: Any) -> Key:
    """Of the batch that a state with this key and step is updated on."""
    return jax.random.fold_in(jax.random.fold_in(key, SAMPLER_STREAM), step)


def _sampled(stage: Stage) -> Reader:
    """Reads a batch of its own for each update."""

    def read(_: Any, state: Pytree, data: Pytree, slot: Pytree) -> Pytree:
        key = sampler_key(state.key, state.step)
        return stage.view.sample(data, key, slot["config"])

    return read


def blank_metrics(stage: Stage, state: Pytree, data: Pytree, slot: Pytree) -> Pytree:
    """Zeros like the metrics of an update, NumPy; of one slot.

    Raises:
      UserError: the method's `update` returns something else than what `Method` says.
    """
    returned = jax.eval_shape(
        lambda *args: _first_step(stage, *args), state, data, slot
    )
    _require_update(f"update of the method {stage.method.name}", state, returned)
    return jax.tree.map(lambda m: np.zeros(m.shape, m.dtype), returned[1])


def _require_update(update: str, state: Pytree, returned: Pytree) -> None:
    """Raises `UserError` unless `returned` is a state like `state`, and metrics."""
    pair = isinstance(returned, tuple) and len(returned) == 2
    if not pair or not isinstance(returned[1], dict):
        raise UserError(
            f"{update} returns {type(returned).__name__}: return the new state and a "
            "dict of scalars."
        )
    for name, value in returned[1].items():
        if not isinstance(value, jax.ShapeDtypeStruct):
            raise UserError(
                f"{update} returns the metric {name!r} as {type(value).__name__}: "
                "return a scalar."
            )
    old, new = _described(state), _described(returned[0])
    for field in old | new:
        was, now = old.get(field, "nothing"), new.get(field, "nothing")
        if was != now:
            raise UserError(
                f"{update} changes state{field} from {was} to {now}: return a state "
                "with the same fields, shapes and types."
            )


def _described(tree: Pytree) -> dict[str, str]:
    """Path of each leaf → its type and shape."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def stride(stage: Stage, state: Pytree, data: Pytree, slot: Pytree) -> int:
    """What an update adds to the state's `step`, whatever it is; of one slot.

    The compiler leaves nothing of the update but this sum.
    """
    advance = jax.jit(lambda *args: _first_step(stage, *args)[0].step)
    return int(advance(state, data, slot)) - int(state.step)


def _first_step(stage: Stage, state: Pytree, data: Pytree, slot: Pytree) -> Pytree:
    batch = _sampled(stage)(0, state, data, slot)
    return _step(stage, state, batch, slot)


def _where(condition: jax.Array, new: Pytree, old: Pytree) -> Pytree:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _finite(tree: Pytree) -> jax.Array:
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    if not leaves:  # a reduction of nothing, inside a loop, crashes jax 0.11 on CPUs
        return jnp.bool_(True)
    flags = jnp.array([jnp.all(jnp.isfinite(x)) for x in leaves])
    # A loop: the compiler would repeat a reduction of so few flags for every leaf of
    # the state, and take twice as long.
    return jax.lax.fori_loop(0, len(leaves), lambda i, ok: ok & flags[i], True)


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
