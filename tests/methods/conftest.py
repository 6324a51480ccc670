"""What tests of methods share: a small dataset, tiny networks, a short training."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from offjax.datasets.dataset import Dataset
from offjax.types import EnvSpec, Model, Params


@pytest.fixture(scope="session")
def small_dataset():
    """24 episodes of 10 steps, half of them cut; the reward is high where actions are.

    Observations [3], actions [2] in a box that is not [-1, 1].
    """
    spec = EnvSpec("none", 3, (-2.0, 0.0), (2.0, 1.0), 10, domain="maze2d")
    rng, rows = np.random.default_rng(0), 240
    observations = rng.normal(size=(rows, 3)).astype(np.float32)
    unit = np.tanh(rng.normal(size=(rows, 2))).astype(np.float32)
    actions = unit * [2.0, 0.5] + [0.0, 0.5]
    ends = np.arange(rows) % 10 == 9
    timeouts = ends & (np.arange(rows) % 20 == 9)
    return Dataset.from_arrays(
        observations,
        actions.astype(np.float32),
        unit.sum(1).astype(np.float32),
        ends & ~timeouts,
        timeouts,
        observations + 0.1,
        spec=spec,
    )


@pytest.fixture
def double():
    """Double precision for the length of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def narrow():
    """`recipe → recipe` with tiny networks and batches, for speed."""
    sizes = {"hidden_dims": (16, 16), "vae_hidden_dims": (16, 16), "batch_size": 16}

    def small(stage):
        names = {f.name for f in dataclasses.fields(stage.config)} & sizes.keys()
        config = dataclasses.replace(stage.config, **{n: sizes[n] for n in names})
        return dataclasses.replace(stage, config=config)

    return lambda recipe: dataclasses.replace(
        recipe, stages=tuple(map(small, recipe.stages))
    )


@pytest.fixture(scope="session")
def train():
    """`(recipe, dataset, updates, models) → Params` of one seed.

    Stages whose models are given are not trained again.
    """

    def run(recipe, dataset, updates, models=None):
        models = dict(models or {})
        for stage in recipe.stages:
            if stage.name in models:
                continue
            upstream = {name: models[name] for name in stage.reads}
            arrays = stage.view.arrays(dataset, stage.config, upstream)
            key = jax.random.PRNGKey(0)
            state = stage.method.init(key, arrays, stage.config, upstream)

            @jax.jit
            def step(state, arrays, upstream, stage=stage):
                def body(i, state):
                    key = jax.random.fold_in(state.key, state.step + 1000)
                    batch = stage.view.sample(arrays, key, stage.config)
                    return stage.method.update(state, batch, stage.config, upstream)[0]

                return jax.lax.fori_loop(0, updates, body, state)

            state = step(state, arrays, upstream)
            models[stage.name] = Model(stage.method, stage.config, state)
        return Params(models, recipe.acting, recipe.improve and recipe.improve.config)

    return run
