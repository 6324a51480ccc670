"""Checks of what users hand to operators; each is silent under jit and vmap.

Shapes are known always and are always checked. Values are known only outside a
transformation; inside one, operators return the mathematically right limit instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from offjax.distributions import Distribution
from offjax.errors import UserError
from offjax.types import Array


def concrete(*arrays: Any) -> bool:
    """Whether all values are known now, so that they may be looked at."""
    return not any(isinstance(array, jax.core.Tracer) for array in arrays)


def radius(name: str, value: Array) -> None:
    """Refuses a negative size of a trust region."""
    if concrete(value) and not np.all(np.asarray(value) >= 0):
        raise UserError(
            f"{name} is {value}, but the trust region's size must be at least 0: 0 "
            "keeps the behavior action, larger values move further along the critic."
        )


def covariance(name: str, cov: Array, action_dim: int, batch: int = 0) -> None:
    """Refuses a covariance [..., A] or [..., A, A] that is not positive definite."""
    lead = (batch,) if batch else ()
    variances, matrices = (*lead, action_dim), (*lead, action_dim, action_dim)
    if cov.shape not in (variances, matrices):
        raise UserError(
            f"{name} has shape {cov.shape}, but means of {action_dim} dimensions need "
            f"variances {variances} or matrices {matrices}."
        )
    if not concrete(cov):
        return
    values = np.asarray(cov)
    if cov.ndim == len(lead) + 2:
        symmetric = np.allclose(values, np.swapaxes(values, -1, -2), rtol=1e-4)
        values = np.linalg.eigvalsh(values) if symmetric else np.full(1, np.nan)
    if not np.all(values > 0):
        raise UserError(
            f"{name} is not positive definite (smallest eigenvalue or variance "
            f"{values.min()}), so it is the covariance of no density: pass variances "
            "(not standard deviations or their logarithms), all above 0."
        )


def same_shape(name: str, array: Array, other: Array) -> None:
    """Refuses a gradient whose shape is not that of the means."""
    if array.shape != other.shape:
        raise UserError(
            f"{name} has shape {array.shape}, but the means have {other.shape}: pass "
            "one gradient of the critic at each mean."
        )


def weights(logits: Array, num_components: int) -> None:
    """Refuses log weights of another number of components, or of no distribution."""
    if logits.shape != (num_components,):
        raise UserError(
            f"logits have shape {logits.shape}, but there are {num_components} "
            "components: pass one log weight per component."
        )
    if concrete(logits):
        values = np.asarray(logits)
        if np.isnan(values).any() or not np.isfinite(values.max()):
            raise UserError(
                f"logits are {values}, which are the log weights of no distribution: "
                "pass finite numbers (-inf for a weight of 0; they are normalized)."
            )


def scalar_critic(q_fn: Callable[[Array], Array], action: Array) -> None:
    """Refuses a critic that does not map one action [A] to one number."""
    shape = jax.eval_shape(q_fn, action).shape
    if shape != ():
        raise UserError(
            f"The critic returns shape {shape} for one action of shape "
            f"{action.shape}, but operators need one number: aggregate its members "
            "(their minimum, or mean - beta * std) and drop the batch axis."
        )


def has_density(distribution: Distribution, operator: str) -> None:
    """Refuses a distribution without a density, for operators that bound it."""
    if distribution.kind == "point":
        raise UserError(
            f"{operator} bounds the density of the behavior policy, but this policy "
            "is deterministic and has none: use closed_form_deterministic or "
            "action_gradient, or a gaussian or mixture policy."
        )
