"""Budget Allocation against a convex solver, brute force and sums by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from offjax import envs
from offjax.envs import budget
from offjax.errors import UserError


def least_distance(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """The optimum as a least-distance problem, solved by non-negative least squares.

    With z = √α(A − β): min |z|² subject to A ≥ 0 and ΣA ≤ 1, that is G z ≥ h (Lawson
    and Hanson, Solving Least Squares Problems, ch. 23).
    """
    constraints = np.vstack([np.diag(1 / np.sqrt(alpha)), -1 / np.sqrt(alpha)])
    bounds = np.append(-beta, beta.sum() - 1)
    stacked = np.vstack([constraints.T, bounds])
    target = np.append(np.zeros(len(alpha)), 1.0)
    dual, _ = nnls(stacked, target, maxiter=10_000)
    residual = stacked @ dual - target
    return beta - residual[:-1] / residual[-1] / np.sqrt(alpha)


def objective(alpha: np.ndarray, beta: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return (alpha * (beta**2 - (shares - beta) ** 2)).sum(-1)


def test_optimum_equals_a_convex_solvers_on_100_instances():
    for i in range(100):
        horizon = (2, 3, 10, 50, 200)[i % 5]
        kappa = (0.8, 1.0, 1.5, 3.0)[i % 4]
        alpha, beta = budget.instance(horizon, 100 + i, kappa)
        ours = budget.optimal_allocation(alpha, beta)
        theirs = least_distance(alpha, beta)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        np.testing.assert_allclose(
            budget.allocation_return(alpha, beta, ours),
            objective(alpha, beta, theirs),
            atol=1e-6,
        )


def test_optimum_of_hand_made_problems():
    cases = [
        ([1, 1], [1, 1], [0.5, 0.5]),
        ([1, 1], [0.9, 0.3], [0.8, 0.2]),
        ([3, 1], [1, 1], [0.75, 0.25]),  # 3(1 − a) = 1 − b, a + b = 1
        ([1, 1, 1], [1, 0.9, 0.01], [0.55, 0.45, 0]),
        ([1, 5], [0.2, 0.3], [0.2, 0.3]),  # enough for all
        ([1, 2], [1, 0], [1, 0]),
    ]
    for alpha, beta, expected in cases:
        np.testing.assert_allclose(
            budget.optimal_allocation(np.array(alpha), np.array(beta)), expected
        )


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("saturate", [False, True])
def test_no_allocation_beats_the_optimum(literal, saturate):
    rng = np.random.default_rng(0)
    for seed in range(5):
        alpha, beta = budget.instance(5, seed, 1.5)
        low, high = budget.reference_returns(alpha, beta, saturate, literal)
        shares = rng.dirichlet(np.full(5, 0.3), 20_000)
        shares[::2] *= rng.uniform(size=(10_000, 1))
        shares[0] = 0
        shares[1:6] = np.eye(5)
        returns = budget.allocation_return(alpha, beta, shares, saturate, literal)
        assert returns.max() <= high + 1e-12
        assert high - returns.max() < 0.1 * (high - low)
        if literal:
            np.testing.assert_allclose(returns[:6].max(), high)
            uniform = np.sum(alpha * (0.2 - beta) ** 2)
        elif saturate:
            uniform = np.sum(np.where(beta < 0.2, beta**2, 0.4 * beta - 0.04) * alpha)
        else:
            uniform = objective(alpha, beta, np.full(5, 0.2))
        np.testing.assert_allclose(low, uniform)


def test_instances():
    alpha, beta = budget.instance(50, 0, 1.5)
    again = budget.instance(50, 0, 1.5)
    other = budget.instance(50, 1, 1.5)
    assert alpha.dtype == beta.dtype == np.float64
    np.testing.assert_array_equal([alpha, beta], again)
    assert not np.allclose(alpha, other[0]) and not np.allclose(beta, other[1])
    np.testing.assert_allclose(beta.sum(), 1.5)
    assert (alpha > 0).all() and (beta > 0).all() and (beta <= 1).all()
    z = 2 * np.log(alpha / 50)
    np.testing.assert_allclose([z.mean(), z.std()], [0, 1], atol=1e-12)
    # Smooth: three frequencies and no others.
    spectrum = np.abs(np.fft.rfft(z))
    assert spectrum[4:].max() < 1e-9 < spectrum[1:4].min()
    for horizon in (2, 10, 200):
        for seed in range(20):
            scales = budget.instance(horizon, seed, 1.5)
            low, high = budget.reference_returns(*scales)
            assert high - low >= 1e-3


def roll(env: budget.BudgetAllocation, shares: list[float], key: int = 0):
    """Observations, rewards and terminals of an episode, stepped one by one."""
    rng = jax.random.key(key)
    state = env.initial(rng)
    observations, rewards = [env.observation(state, rng)], []
    for t, share in enumerate(shares):
        rng = jax.random.fold_in(rng, t)
        action = jnp.asarray([share])
        new = env.transition(state, action, rng)
        rewards.append(env.reward(state, action, new, rng))
        assert bool(env.terminal(new, rng)) == (t + 1 == env.horizon)
        state = new
        observations.append(env.observation(state, rng))
    return np.stack(observations), np.stack(rewards)


def test_an_episode_by_hand():
    shares = [0.5, -0.2, 0.3, 0.9]
    env = budget.BudgetAllocation(horizon=4)
    (alpha,), (beta,) = env.alpha, env.beta
    observations, rewards = roll(env, shares)
    executed = np.array([0.5, 0, 0.3, 0.2])
    left = [1, 0.5, 0.5, 0.2, 0]
    np.testing.assert_allclose(
        observations,
        np.transpose([[1, 0.75, 0.5, 0.25, 0], left, [0, *executed]]),
        atol=1e-6,
    )
    expected = alpha * (beta**2 - (np.minimum(executed, beta) - beta) ** 2)
    np.testing.assert_allclose(rewards, expected, rtol=1e-5, atol=1e-6)
    assert (executed > beta).any() and (executed < beta).any()

    _, rewards = roll(budget.BudgetAllocation(horizon=4, saturate=False), shares)
    expected = alpha * (beta**2 - (executed - beta) ** 2)
    np.testing.assert_allclose(rewards, expected, rtol=1e-5, atol=1e-6)

    _, rewards = roll(budget.BudgetAllocation(horizon=4, literal=True), shares)
    expected = alpha * (executed - beta) ** 2
    np.testing.assert_allclose(rewards, expected, rtol=1e-5, atol=1e-6)

    env = budget.BudgetAllocation(horizon=4, elapsed=True, context=True)
    observations, _ = roll(env, shares)
    np.testing.assert_allclose(observations[:, 0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(
        observations[:, 3:],
        np.transpose([alpha / 4, 4 * beta])[[0, 1, 2, 3, 3]],
        rtol=1e-6,
    )
    for row in observations:
        assert env.observation_space.contains(row)


@pytest.mark.parametrize("reading", [{}, {"saturate": False}, {"literal": True}])
def test_return_of_an_allocation_is_the_environments(reading):
    rng = np.random.default_rng(1)
    env = budget.BudgetAllocation(horizon=10, instance=3, **reading)
    for scale in (0.7, 2.0):
        shares = scale * rng.dirichlet(np.ones(10))
        with jax.enable_x64(True):
            observations, rewards = roll(env, list(shares))
        assert rewards.dtype == observations.dtype == np.float64
        expected = budget.allocation_return(
            env.alpha[0], env.beta[0], shares, **reading
        )
        np.testing.assert_allclose(rewards.sum(), expected, rtol=1e-12)


def test_scores_of_uniform_and_optimum():
    spec = budget.spec(20, 2, 3.0)
    env = envs.make(spec)
    best = budget.optimal_allocation(env.alpha[0], env.beta[0])
    for shares, score in ((np.full(20, 0.05), 0), (best, 100)):
        _, rewards = roll(env, list(shares))
        np.testing.assert_allclose(spec.score(rewards.sum()), score, atol=1e-3)
    assert (spec.horizon, spec.domain) == (20, "budget")
    assert dict(spec.kwargs) == {"horizon": 20, "instance": 2, "kappa": 3.0}
    literal = budget.spec(20, literal=True, context=True)
    assert envs.make(literal).literal and literal.observation_dim == 5
    assert envs.make(literal).observation_space.shape == (5,)


def test_each_episode_draws_one_of_several_instances():
    spec = budget.spec(5, 7, context=True, instances=3)
    env = envs.make(spec)
    each = [budget.instance(5, seed) for seed in (7, 8, 9)]
    shares = [0.3, 0.3, 0.2, 0.1, 0.1]
    seen = set()
    for key in range(12):
        which = int(env.initial(jax.random.key(key)).instance)
        observations, rewards = roll(env, shares, key)
        alpha, beta = each[which]
        np.testing.assert_allclose(
            observations[:-1, 3:], np.transpose([alpha / 5, 5 * beta]), rtol=1e-5
        )
        assert all(env.observation_space.contains(row) for row in observations)
        expected = budget.allocation_return(alpha, beta, np.array(shares))
        np.testing.assert_allclose(rewards.sum(), expected, rtol=1e-5)
        seen.add(which)
    assert seen == {0, 1, 2}
    low, high = np.mean([budget.reference_returns(*scales) for scales in each], axis=0)
    np.testing.assert_allclose([spec.ref_min_score, spec.ref_max_score], [low, high])
    assert spec.observation_dim == 5 and "3 instances" in spec.score_source


def test_noise_is_on_sampled_rewards_only():
    env = budget.BudgetAllocation(horizon=200, reward_noise=0.3)
    clean = budget.BudgetAllocation(horizon=200)
    shares = [1 / 200] * 200
    observations, rewards = roll(env, shares)
    plain_observations, plain = roll(clean, shares)
    np.testing.assert_array_equal(observations, plain_observations)
    np.testing.assert_allclose(np.std(rewards - plain), 0.3, rtol=0.2)
    noisy, noiseless = budget.spec(200, noise=0.3), budget.spec(200)
    assert noisy.kwargs == noiseless.kwargs and "0.3" in noisy.score_source
    assert noisy.ref_max_score == noiseless.ref_max_score


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 0}, "horizon.*0"),
        ({"horizon": 1}, "horizon.*1"),
        ({"horizon": 2.5}, "horizon.*2.5"),
        ({"kappa": 0.0}, "kappa.*0.0"),
        ({"kappa": -1.0}, "kappa.*-1.0"),
        ({"kappa": float("nan")}, "kappa.*nan"),
        ({"kappa": 1e-4}, "kappa 0.0001.*nearer"),
        ({"instance": -1}, "instance.*-1"),
        ({"instances": 0}, "0 instances"),
        ({"reward_noise": -0.1}, "noise.*-0.1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        budget.BudgetAllocation(**arguments)
