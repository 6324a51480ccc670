"""A trained policy that is stepped from Python."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from offjax.errors import UserError
from offjax.evaluation import rollout
from offjax.runner.evaluator import Acting, Evaluator
from offjax.types import Params, Pytree


class SteppedAgent:
    """Acts one step at a time: `reset(task)`, then `act(observation, reward)`."""

    def __init__(
        self,
        agent: rollout.Agent,
        params: Params,
        low: np.ndarray,
        high: np.ndarray,
        seed: int,
    ) -> None:
        self._actor, self._params, self._bounds = agent.actor, params, (low, high)
        self._plan = jax.jit(agent.actor.plan)
        self._act = jax.jit(agent.act)
        self._record = jax.jit(agent.actor.record)
        self._seed = seed
        self._carry: Pytree = None  # a task may have to be given before there is one

    def reset(self, task: Pytree = None) -> None:
        """Begins an episode.

        Args:
          task: for methods that follow instructions, a sentence, or what their actor
            made of one; for those that pursue states, {"goals": [L, O]}.
        """
        if isinstance(task, str):
            task = jax.tree.map(lambda x: x[0], self._actor.embed([task]))
        self._key = jax.random.PRNGKey(self._seed)
        self._carry = self._actor.begin(self._params, task, self._key)
        self._time = 0

    def act(self, observation: np.ndarray, reward: float = 0.0) -> np.ndarray:
        """Action [A] for a raw observation [O] and the last step's reward."""
        if self._carry is None:
            self.reset()
        key = jax.random.fold_in(self._key, self._time)
        pixels = getattr(observation, "dtype", None) == np.uint8
        raw = jnp.asarray(observation, jnp.uint8 if pixels else jnp.float32)
        if self._time % self._actor.period == 0:
            self._carry = self._plan(self._params, self._carry, raw, key)
        proposed, self._carry = self._act(
            self._params, self._carry, raw, jnp.float32(reward), key
        )
        action = jnp.clip(proposed, *self._bounds)
        self._carry = self._record(self._carry, action)
        self._time += 1
        return np.asarray(action)


def agent_of(
    run: Acting, evaluator: Evaluator, seed: int, variant: str | None, where: str
) -> SteppedAgent:
    """One seed's policy.

    Args:
      run: what was trained, with its states.
      evaluator: of `run`.
      seed: one of its seeds.
      variant: one of its variants; None: the first.
      where: the run in words, for errors.

    Raises:
      UserError: a seed or variant that the run does not have.
    """
    seeds, variants = run.options.seeds, run.job.variants
    if seed not in seeds:
        raise UserError(f"seed {seed} is not in {where}; it has {seeds}.")
    if variant is not None and variant not in variants:
        raise UserError(f"no variant {variant!r}; there are {variants}.")
    setting = 0 if variant is None else variants.index(variant)
    slot = setting * len(seeds) + seeds.index(seed)
    _, params = evaluator.acting_slots()
    params = jax.tree.map(lambda x: jnp.asarray(x[slot]), params)
    spec = run.dataset.spec
    box = (-np.inf, np.inf) if spec is None else (spec.action_low, spec.action_high)
    low, high = (np.asarray(bound, np.float32) for bound in box)
    return SteppedAgent(evaluator.agent(), params, low, high, seed)
