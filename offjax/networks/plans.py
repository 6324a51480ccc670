"""Latent plans: what a window of play was up to, as random variables.

A plan is a vector drawn from a distribution whose parameters a network gives. `noise`
is drawn apart from `sample`, so that a loss is a function of its arguments alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp

from offjax.types import Array, Key


@dataclasses.dataclass(frozen=True)
class CategoricalPlan:
    """`variables` independent variables of `classes` classes, one-hot, side by side.

    Gradients pass straight through the sample (Hafner et al., Mastering Atari with
    Discrete World Models, 2020, https://arxiv.org/abs/2010.02193).
    """

    variables: int = 32
    classes: int = 32

    @property
    def size(self) -> int:
        """Length of the plan vector."""
        return self.variables * self.classes

    @property
    def outputs(self) -> int:
        """Number of parameters: the logits."""
        return self.size

    def noise(self, key: Key, batch: tuple[int, ...]) -> Array:
        """Gumbel noise [*batch, variables, classes]."""
        return jax.random.gumbel(key, (*batch, self.variables, self.classes))

    def _logits(self, parameters: Array) -> Array:
        shape = (*parameters.shape[:-1], self.variables, self.classes)
        return jax.nn.log_softmax(parameters.reshape(shape))

    def sample(self, parameters: Array, noise: Array) -> Array:
        """Plans [..., size]; differentiating them is differentiating the means."""
        logits = self._logits(parameters)
        hard = jax.nn.one_hot(jnp.argmax(logits + noise, axis=-1), self.classes)
        soft = jnp.exp(logits)
        plan = hard + (soft - jax.lax.stop_gradient(soft))  # exactly one-hot
        return plan.reshape(parameters.shape)

    def kl(self, posterior: Array, prior: Array) -> Array:
        """KL(posterior ‖ prior), summed over the variables: [...]."""
        p, q = self._logits(posterior), self._logits(prior)
        return jnp.sum(jnp.exp(p) * (p - q), axis=(-2, -1))


@dataclasses.dataclass(frozen=True)
class GaussianPlan:
    """A diagonal Gaussian of `size` dimensions, σ = softplus + 1e-4."""

    size: int = 256

    @property
    def outputs(self) -> int:
        """Number of parameters: means, then raw deviations."""
        return 2 * self.size

    def noise(self, key: Key, batch: tuple[int, ...]) -> Array:
        """Normal noise [*batch, size]."""
        return jax.random.normal(key, (*batch, self.size))

    def _moments(self, parameters: Array) -> tuple[Array, Array]:
        mean, raw = jnp.split(parameters, 2, axis=-1)
        return mean, jax.nn.softplus(raw) + 1e-4

    def sample(self, parameters: Array, noise: Array) -> Array:
        """Plans [..., size], reparameterised."""
        mean, std = self._moments(parameters)
        return mean + std * noise

    def kl(self, posterior: Array, prior: Array) -> Array:
        """KL(posterior ‖ prior), summed over the dimensions: [...]."""
        (mean, std), (center, width) = self._moments(posterior), self._moments(prior)
        ratio, shift = std / width, (mean - center) / width
        return jnp.sum(0.5 * (ratio**2 + shift**2 - 1) - jnp.log(ratio), axis=-1)


Plan = CategoricalPlan | GaussianPlan


def balanced_kl(
    plan: Plan, posterior: Array, prior: Array, mixing: chex.Numeric
) -> Array:
    """KL(posterior ‖ prior), whose gradient moves the prior more than the posterior.

    mixing · KL(sg(posterior) ‖ prior) + (1 − mixing) · KL(posterior ‖ sg(prior)), with
    sg the identity that stops gradients; of parameters [..., outputs] to [...].
    """
    stop = jax.lax.stop_gradient
    to_prior = plan.kl(stop(posterior), prior)
    to_posterior = plan.kl(posterior, stop(prior))
    return mixing * to_prior + (1 - mixing) * to_posterior


def plan_of(config: Any) -> Plan:
    """The kind of plan that a config asks for (fields of `offjax.methods.hulc`)."""
    if config.plan == "categorical":
        return CategoricalPlan(config.plan_variables, config.plan_classes)
    return GaussianPlan(config.plan_variables)
