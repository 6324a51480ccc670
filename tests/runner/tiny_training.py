"""A tiny training through the Python interface, and what it leaves behind."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from offjax.methods import bc
from offjax.runner import run as api
from offjax.runner.programs import stage_key

TINY = {"num_steps": (10,), "hidden_dims": ((16,),), "batch_size": (8,)}
PLAIN = {"eval_every": 5, "eval_episodes": 3, "checkpoint_every": 5}
"""Options of the run `plain`, which many tests read."""


def train(dataset, tmp_path, method="asp", overrides=None, **options):
    request = api.Request(method, "demo", TINY | (overrides or {}))
    defaults = {"eval_episodes": 2, "quiet": True, "num_seeds": 2}
    options = defaults | {"log_every": 10, "checkpoint_every": 10} | options
    return api.train(request, dataset, runs_dir=str(tmp_path), **options)


def states(run):
    return jax.tree.leaves(run.training.stages[-1].states)


def rows(run, file):
    with (run.path / file).open() as lines:
        return list(csv.DictReader(lines))


def exploding(seed):
    """The recipe of behavior cloning whose loss turns NaN at step 6 of a seed."""
    bad_key = np.asarray(stage_key("bc", seed))

    def update(state, batch, config, upstream):
        state, metrics = bc.update(state, batch, config, upstream)
        bad = (state.step == 6) & (state.key == bad_key).all()
        factor = jnp.where(bad, jnp.nan, 1.0)
        actor = state.actor
        params = jax.tree.map(lambda p: p * factor, actor.params)
        metrics = {"bc/loss": metrics["bc/loss"] * factor}
        return state.replace(actor=actor.replace(params=params)), metrics

    method = dataclasses.replace(bc.METHOD, name="exploding", update=update)

    def recipe(spec, preset):
        found = bc.recipe(spec, preset)
        stage = dataclasses.replace(found.stages[0], method=method)
        return dataclasses.replace(found, stages=(stage,))

    return recipe
