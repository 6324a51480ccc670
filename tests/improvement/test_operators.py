"""Operators on distributions: spaces, boxes, candidates and refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.distributions import Distribution, gaussian, mixture, point
from offjax.errors import UserError
from offjax.improvement import OPERATORS, best_of_n, mode_selection, operators

KEY = jax.random.PRNGKey(0)
SHIFT, SCALE = jnp.array([1.0, -2.0]), jnp.array([2.0, 0.5])
MEAN, STD = jnp.array([0.2, -0.4]), jnp.array([0.5, 0.25])


def q_of_unit(a):
    """The critic of the hand-computed example, of environment actions."""
    unit = (a - SHIFT) / SCALE
    first = unit[0] + 2 * unit[1]
    return jnp.minimum(first, 1.5 * unit[0] + unit[1] - 0.1)


def three(squashed=True):
    means = jnp.array([[0.2, -0.4], [0.6, 0.1], [-0.5, 0.9]])
    stds = jnp.array([[0.5, 0.25], [0.4, 0.3], [0.2, 0.2]])
    logits = jnp.log(jnp.array([0.58, 0.38, 0.04]))
    return mixture(logits, means, stds, SHIFT, SCALE, squashed)


def test_squashed_gaussian_moves_before_tanh():
    policy = gaussian(MEAN, STD, SHIFT, SCALE, squashed=True)
    got = operators.gaussian(policy, q_of_unit, KEY, operators.GaussianConfig())
    expected = SHIFT + SCALE * np.array([0.517880, -0.229593])
    np.testing.assert_allclose(got, expected, atol=3e-6)


def test_plain_gaussian_moves_in_units_of_its_box_and_stays_inside():
    policy = gaussian(MEAN, STD, SHIFT, SCALE)
    config = operators.GaussianConfig(log_tau=0.5)
    got = operators.gaussian(policy, q_of_unit, KEY, config)
    grad = np.array([1.0, 2.0])  # of the lower critic at the mean
    along = np.array(STD) ** 2 * grad
    latent = np.array(MEAN) + along / np.sqrt(grad @ along)
    np.testing.assert_allclose(got, SHIFT + SCALE * latent, atol=1e-6)
    far = operators.gaussian(policy, q_of_unit, KEY, operators.GaussianConfig(50.0))
    assert (np.abs((far - SHIFT) / SCALE) <= 1 + 1e-6).all()


def test_proposals_are_ranked_by_what_will_be_executed():
    """Beyond the box the first mean would have the higher value, clipped the lower."""
    means = jnp.array([[3.0, -0.5], [0.8, 0.6]])
    policy = mixture(
        jnp.zeros(2), means, jnp.ones((2, 2)), jnp.zeros(2), jnp.ones(2), False
    )
    config = operators.MixtureConfig(log_tau=0.0)
    act = jax.jit(lambda p: operators.mixture(p, jnp.sum, KEY, config))
    got = act(policy)
    np.testing.assert_allclose(got, means[1], atol=1e-6)


def test_action_space_steps_from_the_squashed_mean():
    policy = gaussian(MEAN, STD, SHIFT, SCALE, squashed=True)
    config = operators.GaussianConfig(space="action")
    got = operators.gaussian(policy, q_of_unit, KEY, config)
    grad = np.array([1.0, 2.0])
    along = np.array(STD) ** 2 * grad
    latent = np.tanh(np.array(MEAN)) + along / np.sqrt(grad @ along)
    np.testing.assert_allclose(got, SHIFT + SCALE * latent, atol=1e-6)


def test_draws_keep_the_best_and_the_key_decides():
    policy = gaussian(MEAN, STD, SHIFT, SCALE, squashed=True)

    def q(a):  # best at a small step
        return -jnp.sum((a - policy.mode() - 0.02) ** 2)

    def act(key, **settings):
        config = operators.GaussianConfig(0.0, 2.0, **settings)
        return operators.gaussian(policy, q, key, config)

    many = act(KEY, num_draws=30)
    one = act(KEY, num_draws=2)
    assert q(many) >= q(one)
    assert not np.array_equal(act(jax.random.PRNGKey(5), num_draws=2), one)


def test_mixture_by_hand():
    weights = jnp.log(jnp.array([0.6, 0.4]))
    policy = three()
    policy = Distribution(
        weights, policy.means[:2], policy.stds[:2], SHIFT, SCALE, True, "mixture"
    )
    got = operators.mixture(policy, q_of_unit, KEY, operators.MixtureConfig())
    latent = np.array([0.689930, 0.240766])
    np.testing.assert_allclose(got, SHIFT + SCALE * np.tanh(latent), atol=3e-6)


@pytest.mark.parametrize("squashed", [True, False])
def test_mode_selection_passes_over_light_components(squashed):
    policy = three(squashed)
    latents = np.array([[0.2, -0.4], [0.6, 0.1], [-0.5, 0.9]])
    modes = SHIFT + SCALE * (np.tanh(latents) if squashed else latents)

    def q(a):  # the third component, of weight 0.04, is the best, then the second
        scores = jnp.array([0.0, 1.0, 2.0])
        return scores[jnp.argmin(jnp.sum((a - modes) ** 2, axis=1))]

    got = mode_selection.improve(policy, q, KEY, mode_selection.Config())
    np.testing.assert_allclose(got, modes[1], atol=1e-6)
    config = mode_selection.Config(weight_threshold=0.03)
    got = mode_selection.improve(policy, q, KEY, config)
    np.testing.assert_allclose(got, modes[2], atol=1e-6)


def test_best_of_n_is_the_best_of_its_samples():
    policy = three()

    def act(n, key=KEY, **settings):
        config = best_of_n.Config(n=n, **settings)
        return best_of_n.improve(policy, q_of_unit, key, config)

    values = [float(q_of_unit(act(n))) for n in (1, 5, 100)]
    assert values == sorted(values) and values[-1] > values[0]
    np.testing.assert_array_equal(act(20, active_n=5.0), act(5))
    firsts = jax.vmap(lambda key: act(1, key))(jax.random.split(KEY, 60))
    latents = np.arctanh((firsts - SHIFT) / SCALE)
    weights = np.array([0.58, 0.38, 0.04])
    error = latents.mean(0) - weights @ np.array(policy.means)
    assert np.abs(error).max() < 4 * 0.6 / np.sqrt(60)


def test_deterministic_policies_move_along_the_gradient():
    policy = point(SHIFT)
    config = operators.DeterministicConfig(delta=0.005)
    got = operators.deterministic(
        policy, lambda a: a @ jnp.array([3.0, 4.0]), KEY, config
    )
    np.testing.assert_allclose(got, SHIFT + 0.1 * np.array([0.6, 0.8]), atol=1e-6)


def test_decoded_atoms_are_all_compared():
    atoms = jnp.array([[0.0, 0.0], [0.5, 0.5], [-0.5, 0.5]])
    zero = jnp.zeros_like(atoms)
    policy = Distribution(jnp.zeros(3), atoms, zero, SHIFT, SCALE, kind="point")
    got = best_of_n.improve(policy, q_of_unit, KEY, best_of_n.Config())
    np.testing.assert_allclose(got, SHIFT + SCALE * 0.5, atol=1e-6)
    config = operators.DeterministicConfig(delta=0.02)
    got = operators.deterministic(policy, lambda a: -a[0], KEY, config)
    expected = SHIFT + SCALE * np.array([-0.5 - 0.2, 0.5])
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["closed_form_gaussian", "closed_form_mixture"])
def test_policies_without_a_density_are_refused_under_jit(name):
    operator, settings = OPERATORS[name]

    @jax.jit
    def act(a):
        return operator(point(a), q_of_unit, KEY, settings())

    with pytest.raises(UserError, match="deterministic"):
        act(jnp.zeros(2))


def test_other_refusals():
    with pytest.raises(UserError, match="closed_form_mixture"):
        operators.gaussian(three(), q_of_unit, KEY, operators.GaussianConfig())
    with pytest.raises(UserError, match="one number"):
        best_of_n.improve(three(), lambda a: a, KEY, best_of_n.Config())
    with pytest.raises(UserError, match="at least 1"):
        best_of_n.improve(three(), q_of_unit, KEY, best_of_n.Config(n=0))
    with pytest.raises(UserError, match="space"):
        config = operators.MixtureConfig(space="tanh")
        operators.mixture(three(), q_of_unit, KEY, config)


def test_every_operator_is_vmapped_over_settings_and_states():
    """A grid of log τ is one batch."""
    policy = gaussian(MEAN, STD, SHIFT, SCALE, squashed=True)

    def act(log_tau):
        config = operators.GaussianConfig(log_tau=log_tau)
        return operators.gaussian(policy, q_of_unit, KEY, config)

    grid = jax.vmap(act)(jnp.array([0.0, 0.5, 2.0]))
    np.testing.assert_allclose(grid[0], policy.mode(), atol=1e-6)
    np.testing.assert_allclose(grid[1], act(0.5), atol=1e-6)
    values = [float(q_of_unit(a)) for a in grid]
    assert values == sorted(values)
