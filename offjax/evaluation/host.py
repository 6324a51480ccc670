"""Full episodes in environments that the host steps, under one batched policy.

Every slot runs its exact number of episodes. Episode i of seed s depends on s, i and
the number of the evaluation set alone: the state that it starts from and the policy's
randomness are the same for any number of seeds, episodes or places, in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

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
    clipped: np.ndarray  # [S] share of the actions that lay outside the box


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


def evaluate(
    agent: BatchedAgent,
    env: BatchedEnv,
    horizon: int,
    seeds: Sequence[int],
    episodes: int,
    eval_seed: int = 0,
) -> Episodes:
    """Runs `episodes` full episodes of every slot.

    A place whose episode ends, at a terminal or the horizon, begins the slot's next
    one; when there is none left it is stepped no more.

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
    """Floating-point operations of one action, its share of planning included.

    Args:
      agent: actor with its operator.
      params: leading axis [S].
      spec: dimensions.
    """
    actor, key = agent.actor, jax.random.PRNGKey(0)
    observation = np.zeros(spec.observation_dim, np.float32)
    params = jax.tree.map(lambda x: np.asarray(x)[0], params)
    carry = jax.eval_shape(lambda p: actor.begin(p, None, key), params)

    def cost(fn: Callable[..., Any], *args: Any) -> float:
        found = jax.jit(fn).lower(*args).cost_analysis() or {}
        return float(found.get("flops", 0.0))

    acting = cost(agent.act, params, carry, observation, np.float32(0), key)
    planning = cost(actor.plan, params, carry, observation, key)
    return acting + planning / actor.period


class _Evaluation:
    """One evaluation under way: which episode each place is in."""

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
        shape = (agent.num_slots, agent.places)
        self.returns = np.zeros((agent.num_slots, episodes))
        self.lengths = np.zeros((agent.num_slots, episodes), np.int64)
        self.episode = np.zeros(shape, np.int64)  # the one that a place is in
        self.begun = np.zeros(agent.num_slots, np.int64)  # episodes of each slot
        self.active = np.zeros(shape, bool)
        self.observations = np.zeros((*shape, env.observation_dim), np.float32)
        self.rewards = np.zeros(shape)
        self.total = np.zeros(shape)
        self.time = np.zeros(shape, np.int64)

    def run(self) -> Episodes:
        """All episodes to their ends."""
        self._begin(np.ones_like(self.active))
        while self.active.any():
            ended = self._step()
            if ended.any():
                slot, episode = np.nonzero(ended)[0], self.episode[ended]
                self.returns[slot, episode] = self.total[ended]
                self.lengths[slot, episode] = self.time[ended]
                self._begin(ended)
        share = self.agent.clipped / np.maximum(self.agent.acted, 1)
        return Episodes(self.returns, self.lengths, share)

    def _begin(self, free: np.ndarray) -> None:
        """Gives places [S, P] the next episodes of their slots, while there are any."""
        waiting = self.begun[:, None] + np.cumsum(free, axis=1) - 1
        fresh = free & (waiting < self.returns.shape[1])
        self.active &= ~free
        self.active |= fresh
        first = not self.begun.any()
        self.begun += fresh.sum(1)
        self.episode = np.where(fresh, waiting, self.episode)
        if not fresh.any():
            return
        numbers = zip(np.nonzero(fresh)[0], self.episode[fresh], strict=True)
        starts = [
            reset_seed(self.seeds[int(slot)], int(i), self.eval_seed)
            for slot, i in numbers
        ]
        self.observations[fresh] = self.env.reset(np.flatnonzero(fresh), starts)
        self.rewards[fresh] = self.total[fresh] = self.time[fresh] = 0
        keys = np.take_along_axis(self.keys, self.episode[..., None], axis=1)
        self.agent.init(np.ones_like(fresh) if first else fresh, keys)

    def _step(self) -> np.ndarray:
        """One step of the active places; those whose episode ended, [S, P]."""
        actions = self.agent.act(self.observations, self.rewards, self.active)
        places = np.flatnonzero(self.active)
        observations, rewards, terminals = self.env.step(places, actions[self.active])
        self.observations[self.active] = observations
        self.rewards[self.active] = rewards
        self.total[self.active] += rewards
        self.time += self.active
        ended = self.active & (self.time >= self.horizon)
        ended[self.active] |= terminals
        return ended
