"""Schedule and samplers against hand computation and a public implementation."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.methods import diffusion

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
BETAS = diffusion.cosine_betas(20)
CASES = {
    "ddim_clean": (diffusion.ddim_steps(BETAS, 10), "clean"),
    "ddim_noise": (diffusion.ddim_steps(BETAS, 5), "noise"),
    "ddim_half": (diffusion.ddim_steps(BETAS, 5, 0.5), "clean"),
    "ddim_full": (diffusion.ddim_steps(BETAS, 20, 1.0), "clean"),
    "ddpm": (diffusion.ddpm_steps(BETAS), "clean"),
}


def test_cosine_schedule():
    """The published β to their five digits, and ᾱ by the formula in closed form."""
    published = [0.00799, 0.02007, 0.03225, 0.04468, 0.05752, 0.07096, 0.08521]
    published += [0.10055, 0.1173, 0.13592, 0.157, 0.18136, 0.21021, 0.24537]
    published += [0.28973, 0.34814, 0.42943, 0.55102, 0.74848, 0.999]
    np.testing.assert_allclose(BETAS, published, atol=1e-5)
    bars = diffusion.alpha_bars(BETAS)

    def f(i):
        return np.cos((i / 20 + 0.008) / 1.008 * np.pi / 2) ** 2

    expected = np.array([f(i) / f(0) for i in range(1, 20)])
    np.testing.assert_allclose(bars[:-1], expected, atol=1e-12)
    np.testing.assert_allclose(bars[-1], 0.001 * expected[-1], atol=1e-12)
    np.testing.assert_allclose(bars[[0, 9]], [0.99201, 0.49384], atol=1e-5)


def test_noise_has_the_share_that_the_schedule_says():
    clean, noise = jnp.full((2, 3), 2.0), jnp.ones((2, 3))
    noisy = diffusion.add_noise(clean, noise, jnp.array([0, 10]), BETAS)
    for row, bar in zip(noisy, (0.99201, 0.41631), strict=True):
        np.testing.assert_allclose(row, 2 * bar**0.5 + (1 - bar) ** 0.5, atol=1e-4)
    back = diffusion.to_clean(noise[1], noisy[1], 0.4163112, "noise")
    np.testing.assert_allclose(back, clean[1], atol=1e-5)


def test_velocity_by_hand():
    """At an angle φ with cos φ = √ᾱ, v is x turned by a right angle; both give x_0."""
    rng = np.random.default_rng(0)
    clean, noise = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
    times = np.array([3, 19])
    bars = np.cumprod(1 - BETAS)[times][:, None, None]
    expected = np.sqrt(bars) * noise - np.sqrt(1 - bars) * clean
    with jax.enable_x64(True):
        found = diffusion.target(
            jnp.asarray(clean), jnp.asarray(noise), times, BETAS, "velocity"
        )
        np.testing.assert_allclose(found, expected, atol=1e-12)
        noisy = np.sqrt(bars) * clean + np.sqrt(1 - bars) * noise
        back = diffusion.to_clean(found, jnp.asarray(noisy), bars, "velocity")
        np.testing.assert_allclose(back, clean, atol=1e-12)
    for kind, same in (("clean", clean), ("noise", noise)):
        found = diffusion.target(clean, noise, times, BETAS, kind)
        np.testing.assert_array_equal(found, same)


def test_the_predicted_plan_can_be_clipped():
    """One step of DDIM by hand: a · clip(x̂_0) + b x, with ε̂ = 0 and x̂_0 = x / √ᾱ."""
    steps = diffusion.ddim_steps(BETAS, 20)
    now = diffusion.Steps(*(column[0] for column in steps))
    x = jnp.array([1e-4, -1.0, 2.0])
    found = diffusion.advance(x, jnp.zeros(3), now, jnp.zeros(3), "noise", clip=3.0)
    clean = np.clip(np.asarray(x) / np.sqrt(now.alpha_bars), -3, 3)
    assert list(np.abs(clean) == 3.0) == [False, True, True]
    np.testing.assert_allclose(found, now.clean * clean + now.noisy * x, rtol=1e-5)


def test_a_smaller_largest_beta_keeps_more_signal():
    kept = diffusion.alpha_bars(diffusion.cosine_betas(20, largest=0.5))
    expected = np.prod(1 - np.minimum(BETAS, 0.5))
    np.testing.assert_allclose(kept[-1], expected, rtol=1e-12)
    assert kept[-1] > 1000 * diffusion.alpha_bars(BETAS)[-1]


@pytest.mark.parametrize("name", list(CASES))
def test_samplers_equal_a_public_implementation(name):
    reference = np.load(FIXTURES / "diffusion_samplers.npz")
    steps, kind = CASES[name]
    path = reference[f"{name}/path"]
    np.testing.assert_array_equal(steps.times, reference[f"{name}/times"])
    weights, noises = reference["weights"], reference["noises"]

    def denoise(x, time):
        return jnp.tanh(x @ weights) + 0.1 * x - 0.01 * time

    x = reference["begin"]
    with jax.enable_x64(True):
        for i, expected in enumerate(path):
            now = diffusion.Steps(*(column[i] for column in steps))
            x = diffusion.advance(x, denoise(x, now.times), now, noises[i], kind)
            np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-5)
    if not np.any(steps.std):
        found = diffusion.sample(
            denoise, jnp.float32(reference["begin"]), jax.random.key(0), steps, kind
        )
        np.testing.assert_allclose(found, path[-1], rtol=2e-5, atol=1e-5)


def test_ddpm_is_the_posterior_and_ddim_with_eta_1_is_ddpm():
    """Bayes: q(x_{t-1} | x_t, x_0) is a product of two Gaussians."""
    ddpm, ddim = diffusion.ddpm_steps(BETAS), diffusion.ddim_steps(BETAS, 20, 1.0)
    bars = np.cumprod(1 - BETAS)
    for i, t in enumerate(ddpm.times[:-1]):
        prior, step = 1 - bars[t - 1], BETAS[t]  # variances of x_{t-1} and x_t given it
        variance = 1 / (1 / prior + (1 - step) / step)
        np.testing.assert_allclose(ddpm.std[i] ** 2, variance, rtol=1e-9)
        clean = variance * np.sqrt(bars[t - 1]) / prior
        noisy = variance * np.sqrt(1 - step) / step
        np.testing.assert_allclose([ddpm.clean[i], ddpm.noisy[i]], [clean, noisy])
    assert (ddpm.clean[-1], ddpm.std[-1]) == (1.0, 0.0)
    for one, other in zip(ddpm, ddim, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_randomness_and_pinning():
    """η = 0 reads no key; many small DDPM steps give the data's distribution."""
    betas = diffusion.cosine_betas(300)
    noise = jax.random.normal(jax.random.key(0), (4000, 2))

    def gaussian(x, time):
        """The best guess of x_0 ~ N(1, 0.5²)."""
        bar = jnp.asarray(diffusion.alpha_bars(betas), jnp.float32)[time]
        gain = 0.25 * jnp.sqrt(bar) / (0.25 * bar + 1 - bar)
        return 1 + gain * (x - jnp.sqrt(bar))

    def run(seed, steps, pin=lambda x: x):
        key = jax.random.key(seed)
        return diffusion.sample(gaussian, noise, key, steps, pin=pin)

    plain = diffusion.ddim_steps(betas, 10)
    np.testing.assert_array_equal(run(1, plain), run(2, plain))
    full = diffusion.ddpm_steps(betas)
    first, second = run(1, full), run(2, full)
    assert np.abs(first - second).mean() > 0.1
    np.testing.assert_allclose(first.mean(0), 1, atol=0.03)
    np.testing.assert_allclose(first.std(0), 0.5, atol=0.03)
    pinned = run(1, full, lambda x: x.at[:, 0].set(7.0))
    np.testing.assert_array_equal(pinned[:, 0], 7)


@pytest.mark.parametrize("steps", [1, 3, 7, 20])
def test_ddim_times_are_spread_over_all(steps):
    """As published: whole parts of evenly spread numbers from N - 1 to -1."""
    grid = np.linspace(-1, 19, steps + 1)
    expected = np.floor(grid + 1e-9).astype(int)[::-1][:-1]
    np.testing.assert_array_equal(diffusion.ddim_steps(BETAS, steps).times, expected)


def test_bad_steps():
    with pytest.raises(UserError, match="diffusion_steps is 0"):
        diffusion.cosine_betas(0)
    with pytest.raises(UserError, match=r"sampling_steps is 21.*1 … 20"):
        diffusion.ddim_steps(BETAS, 21)
