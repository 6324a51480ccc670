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


def test_loss_equals_pytorch(reference):
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, load("params/", reference))
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
        params = jax.tree.map(jnp.asarray, load("params/", reference))
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
        gradients = jax.tree.map(lambda m: 10 * m, state.opt_state[0].mu)
        assert_close(gradients, load("grads/", reference))
        assert_close(state.params, load("updated/", reference), 1e-4)


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
