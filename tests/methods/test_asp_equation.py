"""ASPlanner's loss as its equation has it, and the weighted likelihood, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.methods.asp_losses import (
    BOX,
    batch,
    equation_loss,
    log_normal,
    mle_loss,
    settings,
    softplus,
    windows_of,
)

pytestmark = pytest.mark.usefixtures("double")
rng = np.random.default_rng(0)


@pytest.mark.parametrize("k", [2, 5])
def test_equation_equals_its_loops(k):
    config = settings(
        "equation", 5, k, weights="raw", kl_weight=0.7, discount=0.9, std_min=0.01
    )
    x = rng.uniform(0.1, 0.9, (3, 5, 2))
    returns = rng.uniform(0.5, 2, (3, 5))
    mean, raw = rng.normal(size=(2, 3, 5, 2))
    expected = 0.0
    for b in range(3):
        for d in range(2):
            s = 1 / (1 + np.exp(-mean[b, :, d]))
            shifted = x[b, :, d] - x[b, :, d].min()
            y = shifted / shifted.sum()
            log_pi = log_normal(x[b, :, d], s, 0.01 + softplus(raw[b, :, d]))
            for t in range(5):
                expected -= y[t] * 0.9**t * returns[b, t] * np.log(s[t] / s.sum())
                if y[t] > 0:
                    expected += 0.7 * y[t] * (np.log(y[t]) - log_pi[t])
    data = batch(BOX.low + x * (BOX.high - BOX.low), k, returns)
    loss = equation_loss(windows_of(mean, k, raw), data, BOX, config)
    np.testing.assert_allclose(loss, expected / 6, rtol=1e-6)


def mle_case(order):
    config = settings("mle", 6, weights="std", std_min=0.01, step_weights=True)
    draw = np.random.default_rng(1)
    x, mean, raw = draw.uniform(-1, 1, (3, 4, 6, 1))
    weights = draw.normal(size=(4, 6))
    expected = -(weights[..., None] * log_normal(x, mean, 0.01 + softplus(raw))).mean()
    actions = BOX.shift + BOX.scale * x
    data = batch(actions[:, order], None, weights[:, order])
    return windows_of(mean[:, order], 6, raw[:, order]), data, config, expected


def test_likelihood_pairs_every_step_with_its_own_return():
    for order in (np.arange(6), rng.permutation(6)):
        outputs, data, config, expected = mle_case(order)
        loss = float(mle_loss(outputs, data, BOX, config))
        assert loss == pytest.approx(expected, abs=1e-9)


def test_likelihood_weighs_a_window_by_the_return_from_its_start():
    outputs, data, config, _ = mle_case(np.arange(6))
    config = dataclasses.replace(config, step_weights=False)
    mean, raw = np.split(np.asarray(outputs).reshape(4, 6, 2), 2, axis=-1)
    x = np.asarray((data.actions - BOX.shift) / BOX.scale).reshape(4, 6, 1)
    first = np.asarray(data.standard).reshape(4, 6)[:, :1, None]
    expected = -(first * log_normal(x, mean, 0.01 + softplus(raw))).mean()
    loss = float(mle_loss(outputs, data, BOX, config))
    assert loss == pytest.approx(expected, abs=1e-9)


def test_a_fixed_deviation_is_the_floor_everywhere():
    outputs, data, config, _ = mle_case(np.arange(6))
    config = dataclasses.replace(config, learn_std=False, std_min=0.3)
    mean = np.asarray(outputs).reshape(4, 6, 2)[..., 0]
    x = np.asarray((data.actions - BOX.shift) / BOX.scale).reshape(4, 6)
    weights = np.asarray(data.standard).reshape(4, 6)
    expected = -(weights * log_normal(x, mean, 0.3)).mean()
    loss = float(mle_loss(outputs, data, BOX, config))
    assert loss == pytest.approx(expected, abs=1e-9)
