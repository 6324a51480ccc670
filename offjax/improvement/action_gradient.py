"""Action Gradient: refine an action by gradient ascent on a critic, at acting time.

Lin et al., "Adjusting the Output of Decision Transformer with Action Gradient",
2025 (https://arxiv.org/abs/2510.05285), section 4:

    a^{i+1} = a^i + η ∇_a Q(s, a^i),   i = 0 … n-1                       (1)
    â = argmax of Q(s, ·) over {a^0, …, a^n}                              (2)

a^0 is the policy's action, so Q(s, â) ≥ Q(s, a^0) for any critic, and n = 0 is the
policy itself. Equations (6)-(8) replace the plain step; with g = ∇_a Q(s, a^i),
i counted from 0, and moments that start at zero at every state:

    momentum         v = ζ v + g                           a += η v
    momentum_paper   v = v + ζ g                  (6)      a += η v
    rmsprop          r = ζ r + (1-ζ) g²           (7)      a += η g / (√r + ε)
    adam             bias corrections 1 - ζ₁^{i+1}, 1 - ζ₂^{i+1}
    adam_paper       bias corrections 1 - ζ₁, 1 - ζ₂ at every step   (8)

The paper's names are kept for the equations as printed; the two without suffix are
what their authors mean by the words. The paper gives no ζ, ζ₁, ζ₂, ε: here 0.9, 0.9,
0.999, 1e-8. It does not keep actions inside their bounds either: here every a^i is
clipped before Q and the next gradient are taken there (`clip=False`: as printed).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.distributions import Distribution
from offjax.errors import UserError
from offjax.improvement import checks
from offjax.types import Key, QFunction, config

OPTIMIZERS = ("sgd", "momentum", "momentum_paper", "rmsprop", "adam", "adam_paper")
STEP_MODES = ("raw", "normalized")


@config
class Config:
    """Settings of the operator.

    Attributes:
      step_size: η; in units of the action range where `step_mode` is "normalized".
      ascent_steps: n, the number of gradient steps.
      optimizer: one of `OPTIMIZERS`.
      step_mode: "raw" takes η as it is. "normalized" takes η·(high - low), and the
        recipe divides the critic by the median ‖∇_a Q‖ of the data
        (`median_gradient_norm`), so that η does not depend on the reward's scale.
      clip: keep every candidate inside the action box.
      active_steps: candidates after this many steps do not count; a grid over n runs
        the longest n and masks the rest with this traced value.
      decay: ζ of momentum and rmsprop, ζ₁ of adam.
      second_decay: ζ₂ of adam.
    """

    step_size: float = 0.01
    ascent_steps: int = 10
    optimizer: str = "sgd"
    step_mode: str = "raw"
    clip: bool = True
    active_steps: float = np.inf
    decay: float = 0.9
    second_decay: float = 0.999

    def validate(self) -> None:
        """Raises `UserError` for a step size that is not above 0."""
        if not self.step_size > 0:
            raise UserError(
                f"step_size is {self.step_size}; it must be above 0. For the policy "
                "without refinement set ascent_steps=0."
            )


class _Moments(NamedTuple):
    """First and second moment of the gradient, [A] each."""

    first: chex.Array
    second: chex.Array


def refine(
    action: chex.Array,
    q_fn: Callable[[chex.Array], chex.Array],
    *,
    step_size: chex.Numeric,
    num_steps: int,
    optimizer: str = "sgd",
    low: chex.Numeric = -1.0,
    high: chex.Numeric = 1.0,
    clip: bool = True,
    active_steps: chex.Numeric = np.inf,
    decay: chex.Numeric = 0.9,
    second_decay: chex.Numeric = 0.999,
    epsilon: float = 1e-8,
) -> chex.Array:
    """Best of the num_steps + 1 candidates of the ascent from `action`, by `q_fn`.

    Args:
      action: [A] the policy's action a^0; clipped first, unless `num_steps` is 0.
      q_fn: `action [A] → value []`, differentiable; values that are not a number
        never win.
      step_size: η > 0, scalar or [A]; may be traced, as `low`, `high`, the decays
        and `active_steps` may.
      num_steps: n ≥ 0, static.
      optimizer: one of `OPTIMIZERS`.
      low: lower action bounds, scalar or [A].
      high: upper action bounds, scalar or [A].
      clip: keep candidates in [low, high]; without it the bounds are not read.
      active_steps: only the first `active_steps` steps count.
      decay: ζ or ζ₁.
      second_decay: ζ₂.
      epsilon: ε of rmsprop and adam.

    Returns:
      [A] the refined action â.

    Raises:
      UserError: η ≤ 0, n < 0, an unknown optimizer, or bounds that are not finite.
    """
    _check(step_size, num_steps, optimizer, low, high, clip)
    if num_steps == 0:
        return action
    box = partial(jnp.clip, min=low, max=high) if clip else lambda a: a
    value_and_grad = jax.value_and_grad(q_fn)
    move = partial(
        _move, optimizer=optimizer, decays=(decay, second_decay), epsilon=epsilon
    )

    def step(carry, i):
        action, gradient, moments, best, best_value = carry
        direction, moments = move(gradient, moments, i)
        action = box(action + step_size * direction)
        value, gradient = value_and_grad(action)
        # Written so that a best value that is not a number is replaced, too.
        better = (value > best_value) | (jnp.isnan(best_value) & ~jnp.isnan(value))
        better &= i < active_steps
        best = jnp.where(better, action, best)
        best_value = jnp.where(better, value, best_value)
        return (action, gradient, moments, best, best_value), None

    first = box(action)
    value, gradient = value_and_grad(first)
    moments = _Moments(jnp.zeros_like(gradient), jnp.zeros_like(gradient))
    carry = (first, gradient, moments, first, value)
    carry, _ = jax.lax.scan(step, carry, jnp.arange(num_steps))
    return carry[3]


def action_gradient(
    distribution: Distribution,
    q_function: Callable[[chex.Array], chex.Array],
    key: Key,
    config: Config,
) -> chex.Array:
    """Improvement operator: `refine` from the distribution's mode, in its action box.

    Raises:
      UserError: as `refine`, or an unknown `step_mode`.
    """
    del key
    if config.step_mode not in STEP_MODES:
        raise UserError(
            f"step_mode is {config.step_mode!r}; choose one of {', '.join(STEP_MODES)}."
        )
    low = distribution.shift - distribution.scale
    high = distribution.shift + distribution.scale
    step_size: chex.Numeric = config.step_size
    if config.step_mode == "normalized":
        step_size = config.step_size * (high - low)
    return refine(
        distribution.mode(),
        q_function,
        step_size=step_size,
        num_steps=config.ascent_steps,
        optimizer=config.optimizer,
        low=low,
        high=high,
        clip=config.clip,
        active_steps=config.active_steps,
        decay=config.decay,
        second_decay=config.second_decay,
    )


def median_gradient_norm(
    q_function: QFunction, observations: chex.Array, actions: chex.Array
) -> chex.Array:
    """Median of ‖∇_a Q(s, a)‖ over recorded pairs [N, O], [N, A]; scalar.

    A critic divided by it makes step sizes comparable between reward scales:
    η = κ · (action range) / median ‖∇_a Q‖.
    """
    gradients = jax.vmap(jax.grad(q_function, argnums=1))(observations, actions)
    return jnp.median(jnp.linalg.norm(gradients, axis=-1))


def _move(
    gradient: chex.Array,
    moments: _Moments,
    i: chex.Array,
    optimizer: str,
    decays: tuple[chex.Numeric, chex.Numeric],
    epsilon: float,
) -> tuple[chex.Array, _Moments]:
    """Direction of step i (from 0) before the factor η, and the new moments."""
    first, second = moments
    decay, second_decay = decays
    if optimizer == "sgd":
        return gradient, moments
    if optimizer == "momentum":
        first = decay * first + gradient
        return first, _Moments(first, second)
    if optimizer == "momentum_paper":
        first = first + decay * gradient
        return first, _Moments(first, second)
    if optimizer == "rmsprop":
        second = decay * second + (1 - decay) * gradient**2
        return gradient / (jnp.sqrt(second) + epsilon), _Moments(first, second)
    first = decay * first + (1 - decay) * gradient
    second = second_decay * second + (1 - second_decay) * gradient**2
    power = 1 if optimizer == "adam_paper" else i + 1
    mean = first / (1 - decay**power)
    square = second / (1 - second_decay**power)
    return mean / (jnp.sqrt(square) + epsilon), _Moments(first, second)


def _check(
    step_size: chex.Numeric,
    num_steps: int,
    optimizer: str,
    low: chex.Numeric,
    high: chex.Numeric,
    clip: bool,
) -> None:
    """Refuses what cannot be meant; traced values pass."""
    if optimizer not in OPTIMIZERS:
        raise UserError(
            f"Action Gradient's optimizer is {optimizer!r}; choose one of "
            f"{', '.join(OPTIMIZERS)}."
        )
    if num_steps < 0:
        raise UserError(
            f"Action Gradient's num_steps is {num_steps}; it must be 0 (the policy's "
            "own action) or more."
        )
    # Written so that a step size that is not a number is refused, too.
    if checks.concrete(step_size) and not np.all(np.asarray(step_size) > 0):
        raise UserError(
            f"Action Gradient's step_size is {step_size}; it must be above 0. For "
            "the policy without refinement set num_steps=0."
        )
    bounds = [b for b in (low, high) if checks.concrete(b)] if clip else []
    if not all(np.all(np.isfinite(np.asarray(b))) for b in bounds):
        raise UserError(
            f"Action Gradient needs finite action bounds, but they are {low} to "
            f"{high}. Give the environment's action box, or set clip=False."
        )
