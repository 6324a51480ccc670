"""A policy that acts in many places at once, for environments stepped on the host.

A place runs one episode; every slot has the same number of places. What a place
remembers (the actor's carry, its random stream, its time) stays on the devices.

On CPUs the active places are computed a tile at a time, in a loop whose length is an
argument: finished places cost nothing, and a place's arithmetic is the same bit for bit
whatever the number of others. On accelerators all places are one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.devices.layout import Layout, Program, first_slot
from offjax.evaluation.rollout import Agent, act_key, plan_key, split_key
from offjax.types import Actor, EnvSpec, Key, Params, Pytree

TILE = 10
CLIP_TOLERANCE = 1e-6  # of the box's width: rounding is no clipping


class Memory(NamedTuple):
    """What one place remembers between steps."""

    carry: Pytree
    key: Key
    time: chex.Array  # [] steps since `init`


class BatchedAgent:
    """An agent in `places` places (P) of each of `num_slots` slots (S).

    `load` the parameters, `init` all places, then `act` step by step. `init` with a
    mask begins some places anew (another episode, another task).

    Attributes:
      clipped: [S] actions since `load` that lay outside the box.
      acted: [S] actions since `load`.
    """

    def __init__(
        self, agent: Agent, spec: EnvSpec, places: int, layout: Layout
    ) -> None:
        """Programs are compiled at their first call; `layout` is that of the slots."""
        self._agent, self._layout, self.places = agent, layout, places
        self.num_slots: int = layout.num_slots
        self._low = np.asarray(spec.action_low, np.float32)
        self._high = np.asarray(spec.action_high, np.float32)
        self._plans = type(agent.actor).plan is not Actor.plan
        tile = None if layout.kind == "vmap" else TILE
        self._tile = tile or places
        self._begin = Program(_over_places(self._begin_place, tile), layout)
        self._plan = Program(_over_places(self._plan_place, tile), layout)
        self._act = Program(_over_places(self._act_place, tile), layout)
        self._shared = layout.replicate({})
        # Which slot each device has where; indexing by it is faster than `shard`.
        self._slots = np.asarray(layout.shard(np.arange(self.num_slots)))
        self._memory: Pytree = None
        self._order: tuple[np.ndarray, Pytree] = (np.zeros(0, bool), {})

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs that have been or may be compiled: begin, plan, act."""
        return self._begin, self._plan, self._act

    def embed(self, sentences: Sequence[str]) -> Pytree:
        """What the tasks of K instructions are made of, leaves [K, ...]."""
        return self._agent.actor.embed(sentences)

    def load(self, params: Params) -> None:
        """Acts with these parameters, NumPy [S, …]; then `init` begins all places."""
        self._params = self._layout.shard(params)
        self._memory = None
        self._like = first_slot(params)
        self.clipped = np.zeros(self.num_slots, np.int64)
        self.acted = np.zeros(self.num_slots, np.int64)

    def init(self, mask: np.ndarray, keys: np.ndarray, tasks: Pytree = None) -> None:
        """Begins anew where `mask` is true; everywhere at the first call.

        Args:
          mask: [S, P] bool.
          keys: [S, P, 2] uint32, the random stream of each place that begins.
          tasks: what the actor's `begin` is given; leaves [S, P, …], of the same
            shapes at every call.
        """
        if self._memory is None:
            mask = np.ones_like(mask)
            self._memory = self._layout.shard(self._blank(tasks))
            self._time = np.zeros(mask.shape, np.int64)
        inputs = self._layout.shard({"key": keys, "task": tasks})
        self._memory, _ = self._call(self._begin, inputs, mask)
        self._time = np.where(mask, 0, self._time)

    def act(
        self, observations: np.ndarray, rewards: np.ndarray, active: np.ndarray
    ) -> np.ndarray:
        """Actions [S, P, A] f32 of one step, clipped to the box; zeros if not active.

        The policy plans where its period has passed, and records the clipped action.

        Args:
          observations: [S, P, O] raw; floats, or bytes of cameras.
          rewards: [S, P] of each place's last step; not read at its first one.
          active: [S, P] bool: where to act. The other places stand still.
        """
        inputs = _joined(observations, np.asarray(rewards))[self._slots]
        period = self._agent.actor.period
        if self._plans and period > 1:
            due = active & (self._time % period == 0)
            if due.any():
                self._memory, _ = self._call(self._plan, inputs, due)
        self._memory, proposed = self._call(self._act, inputs, active)
        proposed = self._layout.gather(proposed)
        self._time += active
        actions = np.clip(proposed, self._low, self._high)
        beyond = np.abs(proposed - actions) > CLIP_TOLERANCE * (self._high - self._low)
        self.clipped += np.sum(beyond.any(-1) & active, axis=1)
        self.acted += np.sum(active, axis=1)
        return np.where(active[..., None], actions, np.float32(0))

    # -- one place ----------------------------------------------------------

    def _begin_place(self, params: Params, memory: Memory, row: Pytree) -> Any:
        del memory
        key, _, policy_key = split_key(row["key"])
        carry = self._agent.actor.begin(params, row["task"], policy_key)
        return Memory(carry, key, jnp.int32(0)), ()

    def _plan_place(self, params: Params, memory: Memory, row: chex.Array) -> Any:
        key = plan_key(memory.key, memory.time)
        carry = self._agent.actor.plan(params, memory.carry, _split(row)[0], key)
        return memory._replace(carry=carry), ()

    def _act_place(self, params: Params, memory: Memory, row: chex.Array) -> Any:
        if self._plans and self._agent.actor.period == 1:
            memory = self._plan_place(params, memory, row)[0]
        observation, reward = _split(row)
        reward = jnp.where(memory.time == 0, 0.0, reward)
        key = act_key(memory.key, memory.time)
        action, carry = self._agent.act(params, memory.carry, observation, reward, key)
        executed = jnp.clip(action, self._low, self._high)
        carry = self._agent.actor.record(carry, executed)
        return Memory(carry, memory.key, memory.time + 1), action

    # -- all places ---------------------------------------------------------

    def _blank(self, tasks: Pytree) -> Memory:
        """Zeros of every place's memory, NumPy [S, P, …]."""
        row = {"key": np.zeros(2, np.uint32), "task": first_slot(first_slot(tasks))}
        memory, _ = jax.eval_shape(
            lambda p, r: self._begin_place(p, None, r),  # type: ignore[arg-type]
            self._like, row,
        )  # fmt: skip
        lead = (self.num_slots, self.places)
        return jax.tree.map(lambda s: np.zeros((*lead, *s.shape), s.dtype), memory)

    def _call(self, program: Any, inputs: Pytree, active: np.ndarray) -> Any:
        slots = {
            "params": self._params,
            "memory": self._memory,
            "inputs": inputs,
            **self._where(active),
        }
        return program(slots, self._shared)

    def _where(self, active: np.ndarray) -> Pytree:
        """Active places first, in tiles, on the devices; kept while it is the same."""
        if not np.array_equal(active, self._order[0]):
            padded = -(-self.places // self._tile) * self._tile
            order = np.full((self.num_slots, padded), self.places, np.int32)
            for slot, mine in enumerate(active):
                found = np.flatnonzero(mine)
                order[slot, : len(found)] = found
            tiles = -(-active.sum(1) // self._tile)
            sharded = {"order": order, "tiles": tiles.astype(np.int32)}
            self._order = (active.copy(), self._layout.shard(sharded))
        return self._order[1]


def _joined(observations: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """One array of both, [S, P, …]; the reward's four bytes behind those of pixels."""
    last = rewards[..., None].astype(np.float32)
    if observations.dtype != np.uint8:
        return np.concatenate([observations, last], -1, dtype=np.float32)
    return np.concatenate([observations, last.view(np.uint8)], -1)


def _split(row: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Observation [O] and reward [] of a row of `_joined`."""
    if row.dtype != jnp.uint8:
        return row[:-1], row[-1]
    return row[:-4], jax.lax.bitcast_convert_type(row[-4:], jnp.float32)


def _over_places(fn: Callable[..., Any], tile: int | None) -> Callable[..., Any]:
    """`fn(params, memory, row) → (memory, output)` of one place, over those of a slot.

    The result takes `slots` {params, memory, inputs, order, tiles}. Places that are not
    in `order` keep their memory, with outputs of zero. `tile` places are computed
    together; None: all.
    """

    def over(slot: Pytree, shared: Pytree) -> Pytree:
        del shared
        memory, inputs, order = slot["memory"], slot["inputs"], slot["order"]

        def compute(at: chex.Array, memory: Pytree) -> Any:
            rows = jax.tree.map(lambda x: x.at[at].get(mode="clip"), (memory, inputs))
            return jax.vmap(lambda m, r: fn(slot["params"], m, r))(*rows)

        def body(i: Any, done: Any) -> Any:
            size = order.shape[0] if tile is None else tile
            at = jax.lax.dynamic_slice_in_dim(order, i * size, size)
            return jax.tree.map(
                lambda x, new: x.at[at].set(new.astype(x.dtype), mode="drop"),
                done,
                compute(at, done[0]),
            )

        places = jax.tree.leaves(memory)[0].shape[0]
        _, output = jax.eval_shape(compute, order, memory)
        blank = jax.tree.map(
            lambda s: jnp.zeros((places, *s.shape[1:]), s.dtype), output
        )
        if tile is None:
            return body(0, (memory, blank))
        return jax.lax.fori_loop(0, slot["tiles"], body, (memory, blank))

    return over
