"""Budget Allocation: split a budget of 1 over T steps with diminishing rewards.

The paper (Action Sequence Planner, appendix A.2) prints R_t = α_t(A_t − β_t)² and says
that the reward grows with diminishing gains up to β_t, which that formula does not do
for α_t > 0. The readings, all with A_t executed as clip(A_t, 0, what is left):

- default: R_t = α_t[β_t² − (min(A_t, β_t) − β_t)²], concave and increasing, flat
  beyond β_t;
- `saturate=False`: the same without the minimum, so that overspending a step hurts;
- `literal=True`: as printed, convex (the best plan spends everything on one step, or
  nothing); `saturate` then means nothing;
- `elapsed=True`: the first observation is t/T, as printed, instead of 1 − t/T.

In one instance every episode is the same. With `instances` > 1 each episode is of
another one, and with `context` its α_t and β_t are seen as they come. Instances, optima
and reference returns are computed on the host in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.experimental.functional import FuncEnv

from offjax.errors import UserError
from offjax.types import EnvSpec, Key

ID = "offjax/BudgetAllocation-v0"

MIN_GAIN = 1e-3  # optimum over uniform, below which an instance is drawn anew
MAX_DRAWS = 100


def fourier_profile(
    rng: np.random.Generator, horizon: int, size: int | None = None
) -> np.ndarray:
    """Random smooth profile z(t) = Σ_{m≤3} (ξ_m sin 2πmt/T + ζ_m cos 2πmt/T)/m.

    Returns [T], or [size, T]; ξ and ζ are standard normal.
    """
    shape = (3,) if size is None else (size, 3)
    sines, cosines = rng.standard_normal((2, *shape))
    m = np.arange(1, 4)
    angle = 2 * np.pi * m[:, None] * np.arange(horizon) / horizon
    return (sines / m) @ np.sin(angle) + (cosines / m) @ np.cos(angle)


def instance(
    horizon: int, seed: int = 0, kappa: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Scales α and optimal proportions β of one instance, [T] float64 each.

    α_t = T·exp(z_1/2) and β_t = min(1, κ·e^{.7 z_2}/Σe^{.7 z_2}) for two standardized
    Fourier profiles. κ = Σβ says how scarce the budget is: at κ = 1 the optimum is β
    itself. Draws whose optimum gains less than .001 over the uniform allocation are
    rejected.

    Raises:
      UserError: horizon < 2, a negative seed, κ not positive, or κ so small that the
        uniform allocation is already optimal.
    """
    if not (isinstance(horizon, (int, np.integer)) and horizon >= 2):
        raise UserError(
            f"The horizon of Budget Allocation is {horizon!r}: it must be an integer "
            "of at least 2, since a single step leaves nothing to allocate."
        )
    if not (isinstance(seed, (int, np.integer)) and seed >= 0):
        raise UserError(
            f"The instance of Budget Allocation is {seed!r}: it is a seed and must be "
            "an integer of at least 0."
        )
    if not (np.isfinite(kappa) and kappa > 0):
        raise UserError(
            f"kappa of Budget Allocation is {kappa!r}: it is the sum of the optimal "
            "proportions and must be positive, for instance 1.5."
        )
    rng = np.random.default_rng(seed)
    for _ in range(MAX_DRAWS):
        z = np.stack([fourier_profile(rng, horizon) for _ in range(2)])
        z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
        alpha = horizon * np.exp(0.5 * z[0])
        weights = np.exp(0.7 * z[1])
        beta = np.minimum(1.0, kappa * weights / weights.sum())
        uniform, optimum = reference_returns(alpha, beta)
        if optimum - uniform >= MIN_GAIN:
            return alpha, beta
    raise UserError(
        f"Budget Allocation has no instance of horizon {horizon} with kappa {kappa}: "
        f"in {MAX_DRAWS} draws the best allocation never gained {MIN_GAIN} over the "
        "uniform one. Choose kappa nearer to 1.5."
    )


def instances(
    horizon: int, first: int, count: int, kappa: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Scales and proportions of instances `first`, `first` + 1, …; [count, T] each.

    Raises:
      UserError: `count` below 1, or as `instance`.
    """
    if not (isinstance(count, (int, np.integer)) and count >= 1):
        raise UserError(
            f"{count!r} instances of Budget Allocation were asked for: it must be an "
            "integer of at least 1."
        )
    each = [instance(horizon, first + i, kappa) for i in range(count)]
    alpha, beta = (np.stack(values) for values in zip(*each, strict=True))
    return alpha, beta


_instances = instances  # for where an argument of that name hides it


def optimal_allocation(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Best shares by water-filling, exact; [T] float64, for α > 0 and β ≥ 0 [T].

    max Σ α_t[β_t² − (A_t − β_t)²] over A ≥ 0, ΣA ≤ 1 gives A_t = max(0, β_t −
    ν/(2α_t)), with the budget's price ν = 0 if Σβ ≤ 1. Otherwise ν is found among the
    T sets of steps with the largest 2α_tβ_t. No share exceeds β_t, so the optimum is
    the same whether spending beyond β_t is flat or hurts.
    """
    alpha, beta = np.asarray(alpha, np.float64), np.asarray(beta, np.float64)
    if beta.sum() <= 1:
        return beta.copy()
    order = np.argsort(-alpha * beta, kind="stable")
    inverse = 1 / (2 * alpha)
    prices = (np.cumsum(beta[order]) - 1) / np.cumsum(inverse[order])
    # The m best steps' price rises with m as long as the m-th is worth more than it.
    price = prices.max()
    return np.maximum(0.0, beta - price * inverse)


def optimal_literal_allocation(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Best shares of the printed, convex reward: all on one step, or none; [T].

    The step is argmax α_t(1 − 2β_t), if that gain over spending nothing is positive.
    """
    gains = np.asarray(alpha) * (1 - 2 * np.asarray(beta))
    shares = np.zeros(len(gains))
    shares[gains.argmax()] = float(gains.max() > 0)
    return shares


def allocation_return(
    alpha: np.ndarray,
    beta: np.ndarray,
    shares: np.ndarray,
    saturate: bool = True,
    literal: bool = False,
) -> np.ndarray:
    """Noise-free return [...] of `shares` [..., T] for α and β [T]; float64.

    They are executed as far as the budget of 1 reaches. `saturate` and `literal` are
    those of `BudgetAllocation`.
    """
    wanted = np.maximum(np.asarray(shares, np.float64), 0)
    spent = np.minimum(np.cumsum(wanted, axis=-1), 1)
    executed = np.minimum(np.diff(spent, axis=-1, prepend=0), wanted)
    if literal:
        return np.sum(alpha * (executed - beta) ** 2, axis=-1)
    useful = np.minimum(executed, beta) if saturate else executed
    return np.sum(alpha * useful * (2 * np.asarray(beta) - useful), axis=-1)


def reference_returns(
    alpha: np.ndarray, beta: np.ndarray, saturate: bool = True, literal: bool = False
) -> tuple[float, float]:
    """Returns of the uniform (score 0) and of the best allocation (score 100)."""
    best = optimal_literal_allocation if literal else optimal_allocation
    uniform = np.full(len(alpha), 1 / len(alpha))
    low, high = (
        float(allocation_return(alpha, beta, shares, saturate, literal))
        for shares in (uniform, best(alpha, beta))
    )
    return low, high


def time_feature(horizon: int, elapsed: bool = False) -> np.ndarray:
    """The first observation after 0, …, T steps: 1 − t/T, or t/T; [T + 1] float64."""
    steps = np.arange(horizon + 1)
    return (steps if elapsed else horizon - steps) / horizon


class State(NamedTuple):
    """Scalars: steps done, budget left, last share, and which instance it is."""

    step: chex.Array
    left: chex.Array
    spent: chex.Array
    instance: chex.Array


class BudgetAllocation(FuncEnv):
    """The environment; see the module for its readings.

    Observations are (1 − t/T, budget left, last share), and with `context` also α_t/T
    and Tβ_t; actions [1] in [0, 1] are shares of the whole budget. Terminal after T
    steps.

    Args:
      horizon: T.
      instance: seed of α and β.
      kappa: Σβ.
      saturate: whether spending beyond β_t is flat rather than hurts.
      literal: the reward as printed.
      elapsed: observe t/T instead of 1 − t/T.
      context: observe α_t/T and Tβ_t too (at the end those of the last step).
      instances: each episode draws one of so many, whose seeds begin at `instance`.
      reward_noise: standard deviation of Gaussian noise on sampled rewards; scores are
        measured without it.
    """

    def __init__(
        self,
        horizon: int = 50,
        instance: int = 0,
        kappa: float = 1.5,
        saturate: bool = True,
        literal: bool = False,
        elapsed: bool = False,
        context: bool = False,
        instances: int = 1,
        reward_noise: float = 0.0,
    ):
        super().__init__()
        check_noise(reward_noise)
        self.alpha, self.beta = _instances(horizon, instance, instances, kappa)
        self.horizon = horizon
        self.saturate = saturate
        self.literal = literal
        self.elapsed = elapsed
        self.context = context
        self.reward_noise = reward_noise
        high = [1.0, 1.0, 1.0]
        if context:
            high += [self.alpha.max() / horizon, self.beta.max() * horizon]
        self.observation_space = gymnasium.spaces.Box(
            np.zeros(len(high), np.float32), np.asarray(high, np.float32)
        )
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)

    def initial(self, rng: Key | None = None, params: None = None) -> State:
        """Everything left, nothing spent; of several instances `rng` draws one."""
        which, count = jnp.zeros((), jnp.int32), len(self.alpha)
        if count > 1:
            assert rng is not None
            which = jax.random.randint(rng, (), 0, count, jnp.int32)
        return State(jnp.zeros((), jnp.int32), jnp.ones(()), jnp.zeros(()), which)

    def observation(
        self, state: State, rng: Key | None = None, params: None = None
    ) -> chex.Array:
        """[3], or [5] with context."""
        # From a table, since XLA's division may leave [0, 1] by a rounding error.
        clock = jnp.asarray(time_feature(self.horizon, self.elapsed), state.left.dtype)
        parts = [clock[state.step], state.left, state.spent]
        if self.context:
            alpha, beta = self._scales(state)
            parts += [alpha / self.horizon, beta * self.horizon]
        return jnp.stack(parts)

    def transition(
        self,
        state: State,
        action: chex.Array,
        rng: Key | None = None,
        params: None = None,
    ) -> State:
        """Spends clip(A_t, 0, budget left)."""
        wanted = jnp.asarray(action, state.left.dtype)[0]
        spent = jnp.clip(wanted, 0, state.left)
        return State(state.step + 1, state.left - spent, spent, state.instance)

    def reward(
        self,
        state: State,
        action: chex.Array,
        next_state: State,
        rng: Key,
        params: None = None,
    ) -> chex.Array:
        """Reward of the share that was executed, plus noise if asked for."""
        alpha, beta = self._scales(state)
        share = next_state.spent
        if self.literal:
            reward = alpha * (share - beta) ** 2
        else:
            useful = jnp.minimum(share, beta) if self.saturate else share
            reward = alpha * useful * (2 * beta - useful)
        if self.reward_noise:
            reward += self.reward_noise * jax.random.normal(rng, (), reward.dtype)
        return reward

    def terminal(
        self, state: State, rng: Key | None = None, params: None = None
    ) -> chex.Array:
        """Whether all T steps are done; unspent budget is lost."""
        return state.step >= self.horizon

    def _scales(self, state: State) -> list[chex.Array]:
        """α_t and β_t; those of the last step once the episode is over."""
        step = jnp.minimum(state.step, self.horizon - 1)
        return [
            jnp.asarray(values, state.left.dtype)[state.instance, step]
            for values in (self.alpha, self.beta)
        ]


def check_noise(noise: float) -> None:
    """Raises UserError unless `noise` can be a standard deviation."""
    if not (np.isfinite(noise) and noise >= 0):
        raise UserError(
            f"The reward noise of Budget Allocation is {noise!r}: it is a standard "
            "deviation and must be 0 (none) or positive."
        )


def spec(
    horizon: int = 50,
    instance: int = 0,
    kappa: float = 1.5,
    noise: float = 0.0,
    *,
    saturate: bool = True,
    literal: bool = False,
    elapsed: bool = False,
    context: bool = False,
    instances: int = 1,
) -> EnvSpec:
    """How policies are evaluated: score 0 is uniform, 100 the optimum.

    Of several instances both are means, and the optimum is that of a plan which knows
    the instance beforehand, out of reach where it is seen only as it goes by.

    `noise` is that of the data's rewards. Policies are scored without it, so it shows
    in `score_source` only. The other arguments are those of `BudgetAllocation`; those
    that differ from its defaults are in `kwargs`.
    """
    check_noise(noise)
    scales = zip(*_instances(horizon, instance, instances, kappa), strict=True)
    returns = [reference_returns(*each, saturate, literal) for each in scales]
    low, high = (float(np.mean(values)) for values in zip(*returns, strict=True))
    kwargs: dict[str, Any] = {"horizon": horizon, "instance": instance, "kappa": kappa}
    options = {
        "saturate": (saturate, True),
        "literal": (literal, False),
        "elapsed": (elapsed, False),
        "context": (context, False),
        "instances": (instances, 1),
    }
    kwargs |= {name: on for name, (on, usual) in options.items() if on != usual}
    of = f"{instances} instances" if instances > 1 else "this instance"
    source = f"uniform and optimal allocation of {of}, computed exactly"
    return EnvSpec(
        id=ID,
        kwargs=tuple(kwargs.items()),
        observation_dim=5 if context else 3,
        action_low=(0.0,),
        action_high=(1.0,),
        horizon=horizon,
        ref_min_score=low,
        ref_max_score=high,
        score_source=source + (f", without the reward noise {noise}" if noise else ""),
        domain="budget",
    )
