"""Behavior data for Budget Allocation, vectorized in NumPy.

The paper does not say how its data were collected; these kinds are this project's own.
An allocation is drawn as a Dirichlet around a mean plan:

- `random`: Dirichlet(3, …, 3); no structure in time;
- `smooth`: the mean plan is the softmax of a random Fourier profile of amplitudes
  .5/m, the concentration 20T (about 22 % deviation per step);
- `medium`, `expert`: the mean plan is (1 − η)·uniform + η·optimum, distorted by
  e^{(1 − η)·profile}; the skill η ~ U(0, .5), U(.8, 1) of an episode thus brings it
  nearer to the optimum and steadies it. Half of the episodes are drawn from a Dirichlet
  as above. The other half break the stick step by step: from the budget left they spend
  this step's part of what the plan still has to spend, times log-normal noise of
  σ = .5, so that every step answers to how much the last ones overspent;
- `under`: an episode of one of those four kinds, scaled by a total spend ~ Beta(8, 2);
- `mixed`: a fifth of each of the five.
"""

from __future__ import annotations

import numpy as np

from offjax.envs import budget as env
from offjax.errors import UserError

KINDS = ("random", "smooth", "medium", "expert", "mixed", "under")

SKILL = {"medium": (0.0, 0.5), "expert": (0.8, 1.0)}
CONCENTRATION = 20.0  # of a plan's Dirichlet, per step of the horizon
STICK_NOISE = 0.5


def generate(
    horizon: int,
    kind: str,
    instance: int = 0,
    kappa: float = 1.5,
    noise: float = 0.0,
    num_episodes: int = 2_000,
    seed: int = 0,
    instances: int = 1,
) -> dict[str, np.ndarray]:
    """Episodes of one kind of behavior in the default reading of the environment.

    Args:
      horizon: T.
      kind: one of `KINDS`.
      instance: seed of the environment's α and β.
      kappa: Σβ.
      noise: standard deviation of the Gaussian noise on rewards.
      num_episodes: E.
      seed: seed of the behavior, which differs between instances, too.
      instances: each episode is of one of so many, drawn from those with seeds from
        `instance` on, and observations have the environment's `context`.

    Returns:
      observations [E, T + 1, 3] f32 (with several instances 5), actions [E, T, 1] f32
      (as executed), rewards [E, T] f32, terminals [E, T] bool (true at the last step),
      timeouts [E, T] bool (all false).

    Raises:
      UserError: an unknown kind, no episodes, negative noise or a bad instance.
    """
    if kind not in KINDS:
        raise UserError(
            f"Unknown behavior {kind!r} for Budget Allocation: choose one of "
            f"{', '.join(KINDS)}."
        )
    if num_episodes < 1:
        raise UserError(
            f"{num_episodes} episodes of Budget Allocation were asked for: a dataset "
            "needs at least one."
        )
    env.check_noise(noise)
    alpha, beta = env.instances(horizon, instance, instances, kappa)
    # Instance 0 is drawn as it was before there were others.
    entropy = [seed, KINDS.index(kind), instance][: 3 if instance else 2]
    rng = np.random.default_rng(entropy)
    which = np.zeros(num_episodes, int)
    if instances > 1:
        which = rng.integers(instances, size=num_episodes)
    scales = zip(alpha, beta, strict=True)
    optima = np.stack([env.optimal_allocation(*each) for each in scales])
    order, shares = _shares(rng, kind, optima[which])
    which = which[order]
    data = _rollout(shares.astype(np.float32), alpha[which], beta[which])
    if instances > 1:
        data["observations"] = _with_context(
            data["observations"], alpha[which], beta[which]
        )
    if noise:
        errors = rng.standard_normal(data["rewards"].shape)
        data["rewards"] += (noise * errors).astype(np.float32)
    return data


def _shares(
    rng: np.random.Generator, kind: str, optima: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Allocations of one kind, each summing to at most 1.

    Args:
      rng: of the behavior.
      kind: see the module.
      optima: best allocation of each episode's instance, [E, T].

    Returns:
      Whose they are, [E] rows of `optima`, and the allocations, [E, T].
    """
    size, horizon = optima.shape
    order = np.arange(size)
    if kind == "random":
        return order, rng.dirichlet(np.full(horizon, 3.0), size)
    if kind == "smooth":
        profile = 0.5 * env.fourier_profile(rng, horizon, size)
        return order, _dirichlet(rng, _normalize(np.exp(profile)))
    if kind in SKILL:
        skill = rng.uniform(*SKILL[kind], (size, 1))
        profile = 0.5 * env.fourier_profile(rng, horizon, size)
        plan = (1 - skill) / horizon + skill * optima
        plan = _normalize(plan * np.exp((1 - skill) * profile))
        # The optimum leaves a part of an ample budget (Σβ < 1).
        total = 1 - skill + skill * optima.sum(1, keepdims=True)
        half = size // 2
        return order, total * np.concatenate(
            [_dirichlet(rng, plan[:half]), _break_stick(rng, plan[half:])]
        )
    names = KINDS[:4] if kind == "under" else (*KINDS[:4], "under")
    parts, shares = np.array_split(np.arange(size), len(names)), []
    for name, rows in zip(names, parts, strict=True):
        mine, found = _shares(rng, name, optima[rows])
        order[rows] = rows[mine]
        shares.append(found)
    joined = np.concatenate(shares)
    if kind == "under":
        joined = joined * rng.beta(8, 2, (size, 1))
    shuffle = rng.permutation(size)
    return order[shuffle], joined[shuffle]


def _normalize(plan: np.ndarray) -> np.ndarray:
    return plan / plan.sum(1, keepdims=True)


def _dirichlet(rng: np.random.Generator, plan: np.ndarray) -> np.ndarray:
    """One draw per row around each plan, [E, T] → [E, T]."""
    return _normalize(rng.standard_gamma(CONCENTRATION * plan.shape[1] * plan))


def _break_stick(rng: np.random.Generator, plan: np.ndarray) -> np.ndarray:
    """Shares of a policy that answers to the budget left, [E, T] → [E, T]."""
    to_go = np.cumsum(plan[:, ::-1], axis=1)[:, ::-1]
    fractions = plan / np.maximum(to_go, np.finfo(float).tiny)
    errors = rng.standard_normal(plan.shape)
    fractions = np.minimum(
        fractions * np.exp(STICK_NOISE * errors - STICK_NOISE**2 / 2), 1
    )
    left = np.cumprod(1 - fractions, axis=1)
    return fractions * np.concatenate([np.ones_like(left[:, :1]), left[:, :-1]], axis=1)


def _rollout(
    shares: np.ndarray, alpha: np.ndarray, beta: np.ndarray
) -> dict[str, np.ndarray]:
    """What the environments make of shares, α and β [E, T]; float32 as on device."""
    size, horizon = shares.shape
    observations = np.zeros((size, horizon + 1, 3), np.float32)
    observations[:, :, 0] = env.time_feature(horizon)
    observations[:, 0, 1] = 1
    for t in range(horizon):
        left = observations[:, t, 1]
        spent = np.clip(shares[:, t], 0, left)
        observations[:, t + 1, 1] = left - spent
        observations[:, t + 1, 2] = spent
    actions = observations[:, 1:, 2].copy()
    alpha, beta = alpha.astype(np.float32), beta.astype(np.float32)
    useful = np.minimum(actions, beta)
    terminals = np.zeros((size, horizon), bool)
    terminals[:, -1] = True
    return {
        "observations": observations,
        "actions": actions[:, :, None],
        "rewards": alpha * useful * (2 * beta - useful),
        "terminals": terminals,
        "timeouts": np.zeros_like(terminals),
    }


def _with_context(
    observations: np.ndarray, alpha: np.ndarray, beta: np.ndarray
) -> np.ndarray:
    """Observations [E, T + 1, 3], and beside them α_t/T and Tβ_t of α and β [E, T]."""
    horizon = alpha.shape[1]
    seen = np.stack([alpha / horizon, beta * horizon], axis=-1)
    seen = np.concatenate([seen, seen[:, -1:]], axis=1)
    return np.concatenate([observations, seen.astype(np.float32)], axis=-1)
