"""Behavior data of Budget Allocation, replayed in the environment itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax import envs
from offjax.behavior.budget import KINDS, generate
from offjax.envs import budget
from offjax.errors import UserError


def replay(horizon: int, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observations [E, T + 1, 3] and rewards [E, T] of the environment."""
    env = envs.make(budget.spec(horizon))
    rng = jax.random.key(0)

    def step(state, action):
        new = env.transition(state, action, rng)
        reward = env.reward(state, action, new, rng)
        return new, (env.observation(new, rng), reward)

    def episode(actions):
        state = env.initial(rng)
        first = env.observation(state, rng)[None]
        _, (rest, rewards) = jax.lax.scan(step, state, actions)
        return jnp.concatenate([first, rest]), rewards

    return jax.jit(jax.vmap(episode))(actions)


@pytest.mark.parametrize("horizon", [10, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_data_are_what_the_environment_gives(horizon, kind):
    data = generate(horizon, kind, num_episodes=101)
    shapes = {name: (x.shape, x.dtype.name) for name, x in data.items()}
    assert shapes == {
        "observations": ((101, horizon + 1, 3), "float32"),
        "actions": ((101, horizon, 1), "float32"),
        "rewards": ((101, horizon), "float32"),
        "terminals": ((101, horizon), "bool"),
        "timeouts": ((101, horizon), "bool"),
    }
    observations, rewards = replay(horizon, data["actions"])
    np.testing.assert_array_equal(observations, data["observations"])
    np.testing.assert_allclose(rewards, data["rewards"], atol=1e-6, rtol=1e-5)
    assert data["terminals"][:, -1].all() and not data["terminals"][:, :-1].any()
    assert not data["timeouts"].any()
    assert (data["actions"] >= 0).all() and (data["observations"][..., 1] >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_episodes_of_several_instances(kind):
    data = generate(10, kind, instance=4, instances=6, num_episodes=101)
    assert data["observations"].shape == (101, 11, 5)
    seen = data["observations"][:, :-1, 3:]
    each = [budget.instance(10, 4 + i) for i in range(6)]
    known = np.stack([np.transpose([a / 10, 10 * b]) for a, b in each])
    distances = np.abs(seen[:, None] - known[None]).max((2, 3))
    which = distances.argmin(1)
    assert distances.min(1).max() < 1e-5 and len(set(which)) == 6
    np.testing.assert_array_equal(data["observations"][:, -1, 3:], seen[:, -1])
    returns = data["rewards"].sum(1)
    for i, (alpha, beta) in enumerate(each):
        shares = data["actions"][which == i, :, 0]
        expected = budget.allocation_return(alpha, beta, shares)
        np.testing.assert_allclose(returns[which == i], expected, rtol=1e-5)


def test_experts_know_their_instance():
    data = generate(20, "expert", instances=8, num_episodes=400)
    score = budget.spec(20, instances=8).score(data["rewards"].sum(1))
    assert score.mean() > 60
    mixed = generate(20, "mixed", instances=8, num_episodes=400)
    beta = mixed["observations"][:, :-1, 4]
    spent = mixed["actions"][..., 0]
    # Two fifths of the episodes (medium, expert) spend where it gains something.
    assert np.corrcoef(beta.ravel(), spent.ravel())[0, 1] > 0.2


def scores(kind: str, horizon: int = 50, **kwargs) -> np.ndarray:
    data = generate(horizon, kind, **kwargs)
    return budget.spec(horizon).score(data["rewards"].sum(1))


def test_kinds_differ_as_they_should():
    found = {kind: scores(kind) for kind in KINDS}
    mean = {kind: x.mean() for kind, x in found.items()}
    # Noise around uniform loses by concavity; skill gains.
    assert -35 < mean["random"] < -5 and -35 < mean["smooth"] < -5
    assert 0 < mean["medium"] < 30 and 65 < mean["expert"] < 90
    assert mean["smooth"] - 5 < mean["under"] < mean["mixed"] < mean["expert"]
    assert found["random"].max() < 50 < 80 < found["smooth"].max()
    for x in found.values():
        assert len(x) == 2000 and x.max() < 100.001
    spent = {kind: generate(50, kind)["actions"].sum((1, 2)) for kind in KINDS}
    for kind in ("random", "smooth", "medium", "expert"):
        assert spent[kind].mean() > 0.99
    np.testing.assert_allclose(spent["under"].mean(), 0.8, atol=0.02)
    np.testing.assert_allclose(spent["under"].std(), 0.12, atol=0.02)  # Beta(8, 2)
    # The mean plan of the smooth kind is uniform, that of experts the optimum.
    np.testing.assert_allclose(
        generate(50, "smooth")["actions"].mean((0, 2)), 1 / 50, atol=2e-3
    )
    best = budget.optimal_allocation(*budget.instance(50))
    np.testing.assert_allclose(
        generate(50, "expert")["actions"].mean((0, 2)), best, atol=0.006
    )


def test_stick_breaking_answers_to_the_budget_left():
    """Whoever spent less before spends more, in proportion to what is left."""
    data = generate(50, "expert", num_episodes=4000)
    left = data["observations"][:, 25, 1]
    spent = data["actions"][:, 25, 0]
    frugal = left[2000:] > np.median(left[2000:])
    ratio = spent[2000:][frugal].mean() / spent[2000:][~frugal].mean()
    expected = left[2000:][frugal].mean() / left[2000:][~frugal].mean()
    assert expected > 1.3
    np.testing.assert_allclose(ratio, expected, rtol=0.1)
    # Its noise does not shrink as a Dirichlet's, the other half's, does.
    noise = np.log(spent / left)
    assert noise[:2000].std() < 0.35 < 0.45 < noise[2000:].std() < 0.65


def test_seeds_sizes_and_noise():
    first = generate(10, "mixed", num_episodes=50, seed=1)
    again = generate(10, "mixed", num_episodes=50, seed=1)
    other = generate(10, "mixed", num_episodes=50, seed=2)
    for name, x in first.items():
        np.testing.assert_array_equal(x, again[name])
    assert not np.allclose(first["actions"], other["actions"])
    noisy = generate(10, "mixed", num_episodes=500, noise=0.2)
    clean = generate(10, "mixed", num_episodes=500)
    np.testing.assert_array_equal(noisy["actions"], clean["actions"])
    errors = noisy["rewards"] - clean["rewards"]
    np.testing.assert_allclose([errors.mean(), errors.std()], [0, 0.2], atol=0.01)
    # An ample budget is not all spent by those who know.
    ample = generate(10, "expert", instance=1, kappa=0.8, num_episodes=500)
    np.testing.assert_allclose(ample["actions"].sum((1, 2)).mean(), 0.82, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, "perfect"), r"'perfect'.*random, smooth"),
        ((0, "random"), "horizon"),
        ((10, "random", 0, -1.0), "kappa"),
        ((10, "random", 0, 1.5, -0.1), "noise"),
        ((10, "random", 0, 1.5, 0.0, 0), "0 episodes"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        generate(*arguments)
