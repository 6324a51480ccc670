"""The planner's loss and update against PyTorch; the average; what it refuses."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from offjax.errors import UserError
from offjax.methods import diffusion_planner as planner
from offjax.methods import planning
from offjax.methods.plan_sampling import Config as Sampling
from offjax.methods.plans import PlanBatch, PlannerState, Probe
from offjax.networks.trained import descend, trained
from offjax.types import Model
from tests.methods.sequence_reference import FIXTURES, assert_close, load

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
    return PlanBatch(*(jnp.asarray(reference[f"batch/{n}"]) for n in PlanBatch._fields))


def vector(prefix, reference):
    return planner.flatten(jax.tree.map(jnp.asarray, load(prefix, reference)))


def test_loss_equals_pytorch(reference):
    with jax.enable_x64(True):
        params = vector("params/", reference)
        config = dataclasses.replace(CONFIG, prediction="noise", loss="l1")
        loss, _ = jax.jit(planner.denoising_loss, static_argnums=4)(
            params,
            batch_of(reference),
            jnp.asarray(reference["batch/noise"]),
            jnp.asarray(reference["batch/times"]),
            3,
            config,
        )
    np.testing.assert_allclose(loss, reference["noise_loss"], rtol=1e-6)


def test_step_equals_pytorch(reference):
    """Adam's first step."""
    with jax.enable_x64(True):
        network = trained(vector("params/", reference), optax.adam(CONFIG.lr))
        drawn = (jnp.asarray(reference[f"batch/{n}"]) for n in ("noise", "times"))
        args = (batch_of(reference), *drawn)
        network, loss, _ = jax.jit(
            lambda net, *args: descend(
                lambda p, *args: planner.denoising_loss(p, *args, 3, CONFIG),
                net,
                optax.adam(CONFIG.lr),
                *args,
            )
        )(network, *args)
        np.testing.assert_allclose(loss, reference["loss"], 1e-6)
        # The first moment is a tenth of the gradient.
        gradients = planner.unflatten(10 * network.opt_state[0].mu, CONFIG, 6, 7)
        assert_close(gradients, load("grads/", reference))
        updated = planner.unflatten(network.params, CONFIG, 6, 7)
        assert_close(updated, load("updated/", reference), 1e-4)


def test_an_update_standardizes_plans_and_draws_from_its_step(reference):
    mean, std = jnp.arange(6.0), jnp.linspace(0.5, 2, 6)
    batch = batch_of(reference)
    floats = (jnp.asarray(x, jnp.float32) for x in batch[:2])
    batch = PlanBatch(*floats, batch.mask)
    params = jnp.asarray(vector("params/", reference), jnp.float32)
    config = dataclasses.replace(CONFIG, ema_every=1)
    key, step = jax.random.key(3), 20
    state = PlannerState(
        key=key,
        step=jnp.int32(step),
        planner=trained(params, optax.adam(config.lr)),
        ema=params,
        mean=mean,
        std=std,
        probe=Probe(jnp.zeros((1, 2)), jnp.zeros((1, 3))),
    )
    raw = batch._replace(plans=batch.plans * std + mean)
    after, metrics = jax.jit(planner.update)(state, raw, config, {})
    noise_key, time_key = jax.random.split(jax.random.fold_in(key, step))
    noise = jax.random.normal(noise_key, batch.plans.shape)
    times = jax.random.randint(time_key, batch.plans.shape[:1], 0, 20)
    loss, first = jax.jit(planner.denoising_loss, static_argnums=4)(
        params, batch, noise, times, 3, config
    )
    np.testing.assert_allclose(metrics["planner/loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["planner/first_error"], first, rtol=1e-4)
    assert after.step == step + 1
    expected = 0.995 * params + 0.005 * after.planner.params
    np.testing.assert_allclose(after.ema, expected, rtol=1e-4, atol=1e-6)


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
def test_plans_are_in_the_units_of_the_data(sampler):
    """Of a denoiser that knows the answer, and checks what it is shown."""
    target = np.arange(20.0).reshape(4, 5) / 10
    mean, std = np.arange(5.0), np.linspace(1, 2, 5)
    latent = np.array([7.0, 8.0])

    def denoise(plan, time):
        known = jnp.abs(plan[0, 3:] - (latent - mean[3:]) / std[3:]).max()
        return jnp.where(known < 1e-5, target[: plan.shape[0]], jnp.nan)

    state = types.SimpleNamespace(mean=mean, std=std)
    model = Model(planner.METHOD, CONFIG, state)
    for rows in (0, 1):
        found = planner.sample_rows(
            denoise,
            model,
            jnp.asarray(latent),
            jax.random.PRNGKey(0),
            Sampling(sampler=sampler, sampling_steps=5, rows=rows),
        )
        expected = (target * std + mean)[: rows or 4]
        expected[0, 3:] = latent
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_array_equal(planning.first_move(found, 2), found[0, :3])


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
        dataclasses.replace(CONFIG, **change).validate()


def test_latents_of_another_policy():
    latents = jnp.ones((2, 3))
    state = types.SimpleNamespace(probe=Probe(jnp.zeros((2, 5)), latents))
    planning.check_latents(state, latents + 1e-4)
    with pytest.raises(UserError, match=r"another low-level policy.*by up to 0.5"):
        planning.check_latents(state, latents + 0.5)
    with pytest.raises(UserError, match=r"latents of 3 entries.*has 4"):
        planning.check_latents(state, jnp.ones((2, 4)))
