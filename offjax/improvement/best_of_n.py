"""Best of N: sample the behavior policy, keep the action that the critic prefers.

EBCQ (Ghasemipour et al., EMaQ, 2021; the ablation of Li et al., 2023): a ~ β(·|s) N
times, argmax_a Q(s, a). Acting is stochastic.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from offjax.distributions import Distribution
from offjax.errors import require_least
from offjax.improvement import checks, latent
from offjax.types import Array, Key, config


@config
class Config:
    """The paper's grid of n is 2 to 100, its choice 10 (5 for mixtures).

    Attributes:
      n: number of samples.
      active_n: samples beyond this many do not count; a grid over n draws the largest
        n and masks the rest with this traced value.
    """

    n: int = 10
    active_n: float = np.inf

    def validate(self) -> None:
        """Raises `UserError` where there is no sample."""
        require_least(1, n=self.n)


def improve(
    distribution: Distribution, q: Callable[[Array], Array], key: Key, config: Config
) -> Array:
    """Best by the critic of `config.n` sampled actions, [A].

    A larger n draws the same first samples. Of a point with several atoms (decoded
    actions) all atoms are compared.
    """
    checks.scalar_critic(q, distribution.means[0])
    latents = latent.candidates(distribution, key, config.n)
    candidates = latent.to_box(distribution, latents)
    values = jax.vmap(q)(candidates)
    values = jnp.where(jnp.arange(values.shape[0]) < config.active_n, values, -jnp.inf)
    return candidates[jnp.argmax(values)]
