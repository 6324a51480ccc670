"""MCIL against PyTorch: Gaussian plans and two-way recognition."""

import pathlib
import runpy

import jax

from offjax.algorithms import hulc, mcil

SHARED = runpy.run_path(str(pathlib.Path(__file__).with_name("hulc_reference.py")))
SIZES, Reference = (SHARED["SIZES"], SHARED["Reference"])
TINY = mcil.Config(**SIZES, recognition_layers=2)


def test_loss_and_gradients_equal_pytorchs():
    reference = Reference("mcil", mcil, TINY)
    gradient = jax.jit(jax.grad(hulc.loss_fn, has_aux=True))
    grads, metrics = gradient(
        reference.params,
        reference.state,
        reference.batch,
        reference.noise,
        jax.random.key(0),
        TINY,
    )
    reference.check("masked", grads, metrics)
