"""The planner's loss and update against PyTorch; the average; what it refuses."""

import dataclasses
import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from offjax.algorithms.plan_sampling import Config as Sampling
from offjax.networks.language import Text

from offjax.algorithms import diffusion_planner as planner
from offjax.errors import UserError

SHARED = runpy.run_path(str(pathlib.Path(__file__).with_name("sequence_reference.py")))
FIXTURES, load = SHARED["FIXTURES"], SHARED["load"]
assert_close = SHARED["assert_close"]

CONFIG = planner.Config(
    lr=1e-2,
    first_weight=10.0,
    ema_start=0,
    width=4,
    multipliers=(1, 2),
    groups=2,
    num_heads=2,
    head_dim=4,
    batch_size=3,
)


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(FIXTURES / "diffusion_planner.npz"))


def batch_of(reference):
    return planner.Batch(
        *(jnp.asarray(reference[f"batch/{n}"]) for n in planner.Batch._fields)
    )


def vector(prefix, reference):
    return planner.flatten(jax.tree.map(jnp.asarray, load(prefix, reference)))


def test_loss_equals_pytorch(reference):
    with jax.enable_x64(True):
        params = vector("params/", reference)
        config = dataclasses.replace(CONFIG, prediction="noise", loss="l1")
        loss, _ = jax.jit(planner.loss_fn, static_argnums=4)(
            params,
            batch_of(reference),
            jnp.asarray(reference["batch/noise"]),
            jnp.asarray(reference["batch/times"]),
            3,
            config,
        )
    np.testing.assert_allclose(loss, reference["noise_loss"], rtol=1e-6)


def test_update_equals_pytorch(reference, monkeypatch):
    """Adam's first step, for plans that are standardised by the update itself."""
    mean, std = np.arange(6.0), np.linspace(0.5, 2, 6)
    with jax.enable_x64(True):
        params = vector("params/", reference)
        batch = batch_of(reference)
        batch = batch._replace(plans=batch.plans * std + mean)
        probe = planner.Probe(jnp.zeros((1, 2)), jnp.zeros((1, 3)))
        opt_state = optax.adam(CONFIG.lr).init(params)
        state = planner.State(
            params, params, opt_state, mean, std, probe, jax.random.key(0), jnp.int32(0)
        )
        drawn = {n: jnp.asarray(reference[f"batch/{n}"]) for n in ("noise", "times")}
        monkeypatch.setattr(planner.jax.random, "normal", lambda *_: drawn["noise"])
        monkeypatch.setattr(planner.jax.random, "randint", lambda *_: drawn["times"])
        state, metrics = jax.jit(lambda s: planner.update(s, batch, CONFIG, {}))(state)
        np.testing.assert_allclose(metrics["planner/loss"], reference["loss"], 1e-6)
        # The first moment is a tenth of the gradient.
        gradients = planner.unflatten(10 * state.opt_state[0].mu, CONFIG, 6, 7)
        assert_close(gradients, load("grads/", reference))
        updated = planner.unflatten(state.params, CONFIG, 6, 7)
        assert_close(updated, load("updated/", reference), 1e-4)


def test_average_follows_the_published_schedule():
    config = dataclasses.replace(CONFIG, ema_start=20)
    found, expected, ema = [], [], 0.0
    average = {"w": jnp.float32(0)}
    for step in range(40):
        value = float(step) ** 0.5
        average = planner.averaged(average, {"w": jnp.float32(value)}, step, config)
        if step % 10 == 0:
            ema = value if step < 20 else 0.995 * ema + 0.005 * value
        found.append(float(average["w"]))
        expected.append(ema)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_plans_are_in_the_units_of_the_data(monkeypatch, sampler):
    """A denoiser that knows the answer, and checks what it is shown."""
    target = np.arange(20.0).reshape(4, 5) / 10
    mean, std = np.arange(5.0), np.linspace(1, 2, 5)
    latent = np.array([7.0, 8.0])

    def denoise(params, plans, times, tokens, mask, config):
        assert plans.shape[0] == 1 and tokens.shape == (1, 3, 2)
        known = jnp.abs(plans[0, 0, 3:] - (latent - mean[3:]) / std[3:]).max()
        return jnp.where(known < 1e-5, target[None, : plans.shape[1]], jnp.nan)

    monkeypatch.setattr(planner, "denoise", denoise)
    monkeypatch.setattr(planner, "unflatten", lambda *_: None)
    probe = planner.Probe(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    state = types.SimpleNamespace(ema=None, mean=mean, std=std, probe=probe)
    text = Text(np.ones((3, 2)), np.ones(3, bool), np.ones(2))
    for rows in (0, 1):
        found = planner.plan(
            state,
            jnp.asarray(latent),
            text,
            jax.random.PRNGKey(0),
            CONFIG,
            Sampling(sampler=sampler, sampling_steps=5, rows=rows),
        )
        expected = (target * std + mean)[: rows or 4]
        expected[0, 3:] = latent
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_array_equal(planner.first_move(found, 2), found[0, :3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "huber"}, "loss is 'huber'"),
        ({"prediction": "v"}, "prediction is 'v'"),
        ({"stride": 0}, "stride is 0"),
        ({"width": 3}, "width 3"),
    ],
)
def test_settings_that_make_no_sense(change, message):
    with pytest.raises(UserError, match=message):
        planner.validate(dataclasses.replace(CONFIG, **change))


def test_latents_of_another_policy():
    latents = jnp.ones((2, 3))
    state = types.SimpleNamespace(probe=planner.Probe(jnp.zeros((2, 5)), latents))
    planner.check_latents(state, latents + 1e-4)
    with pytest.raises(UserError, match=r"another low-level policy.*by up to 0.5"):
        planner.check_latents(state, latents + 0.5)
    with pytest.raises(UserError, match=r"latents of 3 entries.*has 4"):
        planner.check_latents(state, jnp.ones((2, 4)))
