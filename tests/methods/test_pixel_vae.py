"""The β-TC-VAE of frames: its terms by NumPy, and that it learns to paint."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from offjax.datasets.play import Observations
from offjax.methods import build, pixel_vae
from offjax.types import Model
from tests.methods import pixel_data
from tests.methods.pixel_data import CAMERAS, LAYERS, SPEC, statistics

TINY = pixel_vae.Config(
    cameras=CAMERAS,
    convolutions=LAYERS,
    image_features=6,
    latent_dim=3,
    hidden_dims=(8,),
    batch_size=4,
)


def test_terms_by_minibatch_weighted_sampling():
    rng = np.random.default_rng(0)
    z, mean, log_std = rng.normal(size=(3, 5, 2))
    log_std *= 0.3
    found = pixel_vae.terms(
        *(jnp.asarray(x, jnp.float32) for x in (z, mean, log_std)), 40.0
    )
    joint, product = np.zeros(5), np.zeros(5)
    for i in range(5):
        each = scipy.stats.norm.logpdf(z[i], mean, np.exp(log_std))
        joint[i] = scipy.special.logsumexp(each.sum(1)) - np.log(40 * 5)
        product[i] = (scipy.special.logsumexp(each, axis=0) - np.log(40 * 5)).sum()
    own = scipy.stats.norm.logpdf(z, mean, np.exp(log_std)).sum(1)
    prior = scipy.stats.norm.logpdf(z).sum(1)
    expected = (own - joint).mean(), (joint - product).mean(), (product - prior).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sum(found), (own - prior).mean(), rtol=1e-5)


def test_it_learns_to_paint_frames_and_gives_latents():
    frames = pixel_data.corners().observations
    data, config = Observations(frames, statistics()), TINY
    batch = frames[:: len(frames) // 16]

    @jax.jit
    def train(key):
        state = pixel_vae.init(key, data, config, {})

        def step(state, _):
            state, metrics = pixel_vae.update(state, batch, config, {})
            return state, metrics["vae/error"]

        return jax.lax.scan(step, state, None, length=150)

    state, errors = train(jax.random.key(0))
    assert state.frames == len(frames)
    assert errors[-20:].mean() < 0.5 * errors[0]
    model = Model(pixel_vae.METHOD, config, state)
    assert pixel_vae.encode_goal(model, frames[:2]).shape == (2, 3)


def test_diffuser_plans_in_its_latents_where_there_are_cameras():
    recipe = build("diffuser", SPEC, "paper")
    assert recipe.config("vae").cameras == CAMERAS
    assert recipe.stage("vae").method is pixel_vae.METHOD
    states = build("diffuser", dataclasses.replace(SPEC, cameras=()), "paper")
    assert states.stage("vae").method.name == "observation_vae"
