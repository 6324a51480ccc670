"""Mode selection: the component mean that the critic prefers.

MG-MS (Li et al., Closed-Form Policy Improvement Operators, 2023, equation 3.15 of the
thesis version): argmax_i Q(s, μ_i) over the components with λ_i of at least ξ. It is
what I_MG tends to as its trust region vanishes.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from offjax.distributions import Distribution
from offjax.errors import require_least
from offjax.improvement import checks, latent
from offjax.improvement.closed_form import heavy
from offjax.types import Array, Key, config


@config
class Config:
    """Settings of the operator.

    Attributes:
      weight_threshold: ξ; lighter components are passed over.
    """

    weight_threshold: float = 0.05

    def validate(self) -> None:
        """Raises `UserError` for a negative ξ."""
        require_least(0, weight_threshold=self.weight_threshold)


def improve(
    distribution: Distribution, q: Callable[[Array], Array], key: Key, config: Config
) -> Array:
    """Best component mean by the critic, as an action [A]; deterministic."""
    checks.scalar_critic(q, distribution.means[0])
    candidates = latent.to_box(distribution, distribution.means)
    allowed = heavy(distribution.logits, config.weight_threshold)
    values = jnp.where(allowed, jax.vmap(q)(candidates), -jnp.inf)
    return candidates[jnp.argmax(values)]
