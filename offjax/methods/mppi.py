"""Model predictive path integral control as TD-MPC2 plans with it (arXiv:2310.16828).

A search over action sequences [H, A] in [-1, 1]. In each iteration N − P sequences are
drawn around a mean, P more are those that a policy proposes; the E best by value, the
elites, give the next mean and deviation with weights exp(τ (value − best)). The action
is the first of one elite, drawn by weight; the mean is where the next search begins.

The settings are no part of what was trained: one model serves every number of samples
and iterations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from offjax.errors import UserError, require_least
from offjax.types import Array, Key, config


@config
class Config:
    """Settings of the search; the published ones.

    Attributes:
      num_samples: N, sequences compared in an iteration, the proposals included.
      num_elites: E.
      num_proposals: P, sequences of the policy.
      iterations: how often mean and deviation are improved.
      temperature: τ, which multiplies the values.
      std_min: lower bound of the deviation.
      std_max: upper bound, and the deviation at first.
    """

    num_samples: int = 512
    num_elites: int = 64
    num_proposals: int = 24
    iterations: int = 6
    temperature: float = 0.5
    std_min: float = 0.05
    std_max: float = 2.0

    def validate(self) -> None:
        """Raises `UserError` for a search that cannot work."""
        if not 0 <= self.num_proposals < self.num_samples:
            raise UserError(
                f"mppi: num_proposals={self.num_proposals} of num_samples="
                f"{self.num_samples} sequences: at least one must be drawn at random."
            )
        if not 1 <= self.num_elites <= self.num_samples:
            raise UserError(
                f"mppi: num_elites={self.num_elites} must be between 1 and num_samples="
                f"{self.num_samples}."
            )
        require_least(1, iterations=self.iterations)


class Search(NamedTuple):
    """How far a search is."""

    mean: Array  # [H, A]
    std: Array  # [H, A]
    elites: Array  # [H, E, A] best sequences of the last iteration
    weights: Array  # [E] theirs, sum 1


Value = Callable[[Array, Key], Array]
"""(sequences [H, N, A], key) → values [N]."""


def improve(
    search: Search,
    noise: Array,
    proposals: Array,
    value: Callable[[Array], Array],
    config: Config,
) -> Search:
    """One iteration with standard normal noise [H, N − P, A] and proposals [H, P, A].

    `value` is that of sequences [H, N, A]; a NaN counts as 0.
    """
    drawn = search.mean[:, None] + search.std[:, None] * noise
    actions = jnp.concatenate([proposals, jnp.clip(drawn, -1.0, 1.0)], axis=1)
    best, index = jax.lax.top_k(jnp.nan_to_num(value(actions)), config.num_elites)
    elites = actions[:, index]
    weights = jax.nn.softmax(config.temperature * best)
    mean = jnp.einsum("e,hea->ha", weights, elites)
    spread = jnp.einsum("e,hea->ha", weights, (elites - mean[:, None]) ** 2)
    std = jnp.clip(jnp.sqrt(spread), config.std_min, config.std_max)
    return Search(mean, std, elites, weights)


def search(
    value: Value, proposals: Array, mean: Array, key: Key, config: Config
) -> Search:
    """All iterations from a mean [H, A], in one scan."""
    horizon, count, action_dim = proposals.shape
    shape = (horizon, config.num_samples - count, action_dim)

    def iteration(now: Search, key: Key) -> tuple[Search, None]:
        noise_key, value_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, shape, mean.dtype)
        better = improve(now, noise, proposals, lambda a: value(a, value_key), config)
        return better, None

    begin = Search(
        mean,
        jnp.full_like(mean, config.std_max),
        jnp.zeros((horizon, config.num_elites, action_dim), mean.dtype),
        jnp.zeros(config.num_elites, mean.dtype),
    )
    return jax.lax.scan(iteration, begin, jax.random.split(key, config.iterations))[0]


def plan(
    value: Value, proposals: Array, last: Array, key: Key, config: Config
) -> tuple[Array, Array]:
    """An action [A] in [-1, 1], and the search's mean [H, A] for the next step.

    The search begins at the last step's mean `last`, shifted by one; zeros at first.
    """
    search_key, choice_key = jax.random.split(key)
    begin = jnp.concatenate([last[1:], jnp.zeros_like(last[:1])])
    found = search(value, proposals, begin, search_key, config)
    chosen = jax.random.categorical(choice_key, jnp.log(found.weights))
    return found.elites[0, chosen], found.mean
