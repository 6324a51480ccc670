"""MCIL against PyTorch: Gaussian plans and two-way recognition."""

import jax

from offjax.methods import hulc, mcil
from tests.methods.hulc_reference import SIZES, Reference

TINY = mcil.Config(**SIZES, recognition_layers=2)


def test_loss_and_gradients_equal_pytorchs():
    reference = Reference("mcil", TINY)
    gradient = jax.jit(jax.grad(hulc.loss_at, has_aux=True))
    grads, metrics = gradient(
        reference.params,
        reference.state,
        reference.batch,
        reference.noise,
        jax.random.key(0),
        TINY,
    )
    reference.check("masked", grads, metrics)
