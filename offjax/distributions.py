"""Action distributions: one small pytree family for every policy of the suite.

A distribution lives in a latent space: the environment's action is
``shift + scale · g(u)`` with g = tanh where `squashed`, else the identity. `shift` and
`scale` map the box [-1, 1] to the environment's own. Closed-form operators act on u
with q∘g; everyone else asks for `mode`, `sample` and `log_prob` of actions.
"""

from __future__ import annotations

from functools import partial

import flax.struct
import jax
import jax.numpy as jnp

from offjax.types import Array, Key

LOG_2PI = 1.8378770664093453


class Distribution(flax.struct.PyTreeNode):
    """A point (`stds` all zero, N = 1), a Gaussian (N = 1) or a mixture, for one state.

    Attributes:
      logits: [N] unnormalized log weights.
      means: [N, A] component means, latent.
      stds: [N, A] component standard deviations, latent; 0 for a point.
      shift: [A] center of the action box.
      scale: [A] half-width of the action box.
      squashed: whether actions are tanh of the latent.
      kind: "point", "gaussian" or "mixture".
    """

    logits: Array
    means: Array
    stds: Array
    shift: Array
    scale: Array
    squashed: bool = flax.struct.field(pytree_node=False, default=False)
    kind: str = flax.struct.field(pytree_node=False, default="gaussian")

    def to_action(self, latent: Array) -> Array:
        """Environment action of a latent one, both [..., A]."""
        u = jnp.tanh(latent) if self.squashed else latent
        return self.shift + self.scale * u

    def to_latent(self, action: Array) -> Array:
        """Inverse of `to_action`; actions on the rim are moved in by 1e-6."""
        u = (action - self.shift) / self.scale
        if not self.squashed:
            return u
        return jnp.arctanh(jnp.clip(u, -1 + 1e-6, 1 - 1e-6))

    def mode(self) -> Array:
        """Action at the mean of the heaviest component, [A]."""
        return self.to_action(self.means[jnp.argmax(self.logits)])

    def sample(self, key: Key) -> Array:
        """One action, [A]."""
        which, noise = jax.random.split(key)
        i = jax.random.categorical(which, self.logits)
        eps = jax.random.normal(noise, self.means.shape[1:])
        return self.to_action(self.means[i] + self.stds[i] * eps)

    def log_prob(self, action: Array) -> Array:
        """Log density of an environment action [A], with the change of variables."""
        u = self.to_latent(action)
        z = (u - self.means) / self.stds
        parts = -0.5 * jnp.sum(z**2 + 2 * jnp.log(self.stds) + LOG_2PI, axis=-1)
        log_density = jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + parts)
        jacobian = jnp.sum(jnp.log(self.scale))
        if self.squashed:  # log(1 - tanh²u), in a form that does not cancel
            jacobian += jnp.sum(2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u)))
        return log_density - jacobian


def point(
    action: Array, shift: Array | None = None, scale: Array | None = None
) -> Distribution:
    """All mass on one environment action [A]; the box is [-1, 1] if none is given."""
    shift = jnp.zeros_like(action) if shift is None else shift
    scale = jnp.ones_like(action) if scale is None else scale
    latent = ((action - shift) / scale)[None]
    stds = jnp.zeros_like(latent)
    return Distribution(jnp.zeros(1), latent, stds, shift, scale, kind="point")


def unit_point(unit: Array, shift: Array, scale: Array) -> Distribution:
    """All mass on one action [A] of [-1, 1], the environment's being scaled from it."""
    return unit_atoms(unit[None], shift, scale)


def unit_atoms(units: Array, shift: Array, scale: Array) -> Distribution:
    """Equal mass on several actions [N, A] of [-1, 1], scaled alike."""
    logits, stds = jnp.zeros(units.shape[0]), jnp.zeros_like(units)
    return Distribution(logits, units, stds, shift, scale, kind="point")


def gaussian(
    mean: Array, std: Array, shift: Array, scale: Array, squashed: bool = False
) -> Distribution:
    """Diagonal Gaussian over the latent action; all arguments [A]."""
    return Distribution(
        jnp.zeros(1), mean[None], std[None], shift, scale, squashed, "gaussian"
    )


mixture = partial(Distribution, kind="mixture")
