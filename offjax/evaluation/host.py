"""Full episodes in environments that the host steps, under one batched policy.

Episode i of seed s depends on s, i and the number of the evaluation set alone: its
start and the policy's randomness are the same for any number of seeds or places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from offjax.devices.layout import first_slot
from offjax.evaluation.batched import BatchedAgent
from offjax.evaluation.rollout import EVALUATION_STREAM, Agent, slot_key
from offjax.types import EnvSpec, Params

if TYPE_CHECKING:
    from offjax.envs.batched import BatchedEnv

MAX_PLACES = 512


class Episodes(NamedTuple):
    """What full episodes came to; S slots, E episodes of each."""

    returns: np.ndarray  # [S, E] f64
    lengths: np.ndarray  # [S, E] steps
    clipped: np.ndarray | None  # [S] share of the actions outside the box, if counted


def num_places(num_slots: int, episodes: int) -> int:
    """Places of each slot: one per episode, up to `MAX_PLACES` in all."""
    return min(episodes, max(1, MAX_PLACES // num_slots))


def episode_keys(seeds: Sequence[int], episodes: int, eval_seed: int) -> np.ndarray:
    """The policy's random streams, [S, episodes, 2]; those of device rollouts."""
    numbers = np.asarray(seeds, np.uint32), np.arange(episodes, dtype=np.uint32)
    return np.asarray(_keys(*numbers, np.uint32(eval_seed)))


@jax.jit
def _keys(seeds: jax.Array, episodes: jax.Array, eval_seed: jax.Array) -> jax.Array:
    def of_seed(seed: jax.Array) -> jax.Array:
        key = slot_key(seed, eval_seed)
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(episodes)

    return jax.vmap(of_seed)(seeds)


def reset_seed(seed: int, episode: int, eval_seed: int) -> int:
    """Seed of the environment's reset for one episode, below 2³¹."""
    entropy = (EVALUATION_STREAM, seed, episode, eval_seed)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)


def typed(buffer: np.ndarray, observations: np.ndarray) -> np.ndarray:
    """`buffer`, in bytes if that is what is observed (pixels)."""
    is_bytes = observations.dtype == np.uint8
    return buffer.astype(np.uint8 if is_bytes else np.float32, copy=False)


def evaluate(
    agent: BatchedAgent,
    env: BatchedEnv,
    horizon: int,
    seeds: Sequence[int],
    episodes: int,
    eval_seed: int = 0,
) -> Episodes:
    """Runs `episodes` full episodes of every slot.

    A place whose episode ends begins the slot's next one, while there is one.

    Args:
      agent: loaded; S slots with P places each.
      env: environment with S·P places, slot after slot.
      horizon: steps after which an episode is cut.
      seeds: [S] seed of each slot.
      episodes: E.
      eval_seed: number of the set of episodes.
    """
    return _Evaluation(agent, env, horizon, seeds, episodes, eval_seed).run()


def flops_per_action(agent: Agent, params: Params, spec: EnvSpec) -> float:
    """Floating-point operations of one action, with its share of planning.

    `params` have a leading axis [S].
    """
    actor, key = agent.actor, jax.random.PRNGKey(0)
    observation: np.ndarray = np.zeros(spec.observation_dim, spec.observation_dtype)
    params = first_slot(params)
    carry = jax.eval_shape(lambda p: actor.begin(p, None, key), params)

    def cost(fn: Callable[..., Any], *args: Any) -> float:
        found = jax.jit(fn).lower(*args).cost_analysis() or {}
        return float(found.get("flops", 0.0))

    acting = cost(agent.act, params, carry, observation, np.float32(0), key)
    planning = cost(actor.plan, params, carry, observation, key)
    return acting + planning / actor.period


class Queue:
    """Which of N items (episodes, trials) each of S·P places is at.

    The places of a slot take its items in order.
    """

    def __init__(self, num_slots: int, places: int, count: int) -> None:
        self.item = np.zeros((num_slots, places), np.int64)
        self.active = np.zeros((num_slots, places), bool)
        self._begun = np.zeros(num_slots, np.int64)
        self._count = count

    def take(self, free: np.ndarray) -> np.ndarray:
        """Gives free places [S, P] the next items; those that got one [S, P].

        The others become inactive.
        """
        waiting = self._begun[:, None] + np.cumsum(free, axis=1) - 1
        fresh = free & (waiting < self._count)
        self.active = (self.active & ~free) | fresh
        self._begun += fresh.sum(axis=1)
        self.item = np.where(fresh, waiting, self.item)
        return fresh


class _Evaluation:
    """One evaluation under way."""

    def __init__(
        self,
        agent: BatchedAgent,
        env: BatchedEnv,
        horizon: int,
        seeds: Sequence[int],
        episodes: int,
        eval_seed: int,
    ) -> None:
        self.agent, self.env, self.horizon = agent, env, horizon
        self.seeds, self.eval_seed = seeds, eval_seed
        self.keys = episode_keys(seeds, episodes, eval_seed)
        self.queue = Queue(agent.num_slots, agent.places, episodes)
        self.returns = np.zeros((agent.num_slots, episodes))
        self.lengths = np.zeros((agent.num_slots, episodes), np.int64)
        shape = (agent.num_slots, agent.places)
        self.observations = np.zeros((*shape, env.observation_dim), np.float32)
        self.rewards = np.zeros(shape)
        self.total = np.zeros(shape)
        self.time = np.zeros(shape, np.int64)

    def run(self) -> Episodes:
        """All episodes to their ends."""
        self._begin(np.ones_like(self.queue.active))
        while self.queue.active.any():
            ended = self._step()
            if ended.any():
                at = np.nonzero(ended)[0], self.queue.item[ended]  # slot, episode
                self.returns[at] = self.total[ended]
                self.lengths[at] = self.time[ended]
                self._begin(ended)
        share = self.agent.clipped / np.maximum(self.agent.acted, 1)
        return Episodes(self.returns, self.lengths, share)

    def _begin(self, free: np.ndarray) -> None:
        """Gives places [S, P] the next episodes of their slots, while there are any."""
        fresh = self.queue.take(free)
        if not fresh.any():
            return
        episode = self.queue.item
        numbers = zip(np.nonzero(fresh)[0], episode[fresh], strict=True)
        starts = [
            reset_seed(self.seeds[int(slot)], int(i), self.eval_seed)
            for slot, i in numbers
        ]
        begun = self.env.reset(np.flatnonzero(fresh), starts)
        self.observations = typed(self.observations, begun)
        self.observations[fresh] = begun
        self.rewards[fresh] = self.total[fresh] = self.time[fresh] = 0
        keys = np.take_along_axis(self.keys, episode[..., None], axis=1)
        self.agent.init(fresh, keys)

    def _step(self) -> np.ndarray:
        """One step of the active places; those whose episode ended, [S, P]."""
        active = self.queue.active
        actions = self.agent.act(self.observations, self.rewards, active)
        places = np.flatnonzero(active)
        observations, rewards, terminals = self.env.step(places, actions[active])
        self.observations[active] = observations
        self.rewards[active] = rewards
        self.total[active] += rewards
        self.time += active
        ended = active & (self.time >= self.horizon)
        ended[active] |= terminals
        return ended
