"""A tiny training through the Python interface, and what it leaves behind."""

import csv

import jax

from offjax.runner import run as api

TINY = {"num_steps": (10,), "hidden_dims": ((16,),), "batch_size": (8,)}


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
