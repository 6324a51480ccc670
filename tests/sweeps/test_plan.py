"""Sweeps as jobs: what is packed, what is apart, what is refused."""

import json

import numpy as np
import pytest

from offjax.datasets.dataset import Dataset
from offjax.envs import budget
from offjax.errors import UserError
from offjax.runner.records import RunFolder, write_json
from offjax.sweeps import plan


def small_dataset(name):
    rng = np.random.default_rng(0)
    spec = budget.spec(10)
    rows = 40
    timeouts = np.zeros(rows, bool)
    timeouts[9::10] = True
    return Dataset.from_arrays(
        observations=rng.normal(size=(rows, spec.observation_dim)),
        actions=rng.uniform(0, 1, (rows, spec.action_dim)),
        rewards=rng.normal(size=rows),
        terminals=np.zeros(rows, bool),
        timeouts=timeouts,
        spec=spec,
        id=name,
        source="test",
    )


def entry(**changes):
    content = {
        "methods": ("bc", "asp"),
        "datasets": ("mine/one-v0", "mine/two-v0"),
        "preset": "demo",
    }
    return plan.Entry(**(content | changes))


def test_traced_values_share_a_job_and_the_others_do_not():
    config = {"actor_lr": (1e-3, 3e-4), "batch_size": (16, 32)}
    methods = ("bc", "percent_bc")
    jobs = plan.expand([entry(methods=methods, config=config)], small_dataset, "s")
    assert len(jobs) == 2 * 2 * 2  # methods × datasets × batch sizes
    assert len({job.hash for job in jobs}) == 8
    assert all(len(job.variants) == 2 for job in jobs)  # the learning rates


def test_a_job_survives_its_file_with_the_order_of_its_overrides():
    config = {"actor_lr": (1e-3, 3e-4), "batch_size": (16,), "hidden_dims": ((8, 8),)}
    (job,) = plan.expand(
        [entry(methods=("bc",), datasets=("mine/one-v0",), config=config)],
        small_dataset,
        "s",
    )
    again = plan.Job.from_json(json.loads(json.dumps(job.to_json())))
    assert again == job
    assert list(again.overrides) == list(job.overrides)


def test_the_same_configuration_is_one_job_and_priority_leads():
    first, second = entry(), entry(methods=("asp",), priority=0)
    urgent = entry(methods=("percent_bc",), priority=2.0)
    jobs = plan.expand([first, second, urgent], small_dataset, "s")
    assert [j.method for j in jobs] == ["percent_bc"] * 2 + ["bc", "asp"] * 2


def test_a_job_is_the_run_that_experiments_run_would_make():
    from offjax.runner.options import Options
    from offjax.runner.training import Training, make_jobs

    (job, *_) = plan.expand([entry(options={"num_seeds": 2})], small_dataset, "s")
    dataset = small_dataset(job.dataset)
    (mine,) = make_jobs(job.method, "demo", dataset, {})
    options = Options(num_seeds=2)
    training = Training.of(mine, job.method, "demo", dataset, options)
    assert training.hash == job.hash


def test_progress_is_read_from_the_run_store(tmp_path):
    (job, *_) = plan.expand([entry()], small_dataset, "s")
    assert plan.progress(job, tmp_path).status == "waiting"
    record = {"config_hash": job.hash, "total_steps": 300}
    for status, step in (("interrupted", 120), ("finished", 300)):
        folder = RunFolder.create(tmp_path, job.method, job.dataset, job.hash)
        write_json(folder.path / "run.json", record | {"status": status})
        folder.append("metrics.csv", [(120, 0, "v", "loss", 1.0)])
        at = plan.progress(job, tmp_path)
        assert (at.status, at.step, at.total) == (status, step, 300)
    other = RunFolder.create(tmp_path, job.method, job.dataset, "f" * 64)
    write_json(other.path / "run.json", {"config_hash": "f" * 64, "status": "running"})
    assert plan.progress(job, tmp_path).status == "finished"


def test_jobs_are_planned_without_the_data():
    config = {"actor_lr": (1e-3, 3e-4), "batch_size": (16, 32)}
    wanted = [entry(methods=("bc",), config=config)]
    specs = {"mine/one-v0": budget.spec(10), "mine/two-v0": budget.spec(20)}
    planned = plan.expand(wanted, lambda name: None, "s", specs.get)
    made = plan.expand(wanted, small_dataset, "s")
    assert [job.label for job in planned] == [job.label for job in made]
    assert not {job.hash for job in planned} & {job.hash for job in made}


@pytest.mark.parametrize(
    "content, match",
    [
        ("{", "cannot be read"),
        ({"jobs": []}, 'no list of "entries"'),
        ({"entries": [3]}, "entry 0 .* is not an object"),
        ({"entries": [{"methods": ["bc"]}]}, "needs 'datasets'"),
        ({"entries": [{"methods": "bc", "datasets": ["d"]}]}, "needs 'methods'"),
        (
            {"entries": [{"methods": ["bc"], "datasets": ["d"], "seeds": 3}]},
            "unknown name 'seeds'; known: methods",
        ),
        (
            {"entries": [{"methods": ["bc"], "datasets": ["d"], "config": [1]}]},
            "not an object of names and values",
        ),
    ],
)
def test_bad_sweep_files_are_told(tmp_path, content, match):
    path = tmp_path / "sweep.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=match):
        plan.parse_file(path)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"methods": ("bcc",)}, "bcc"),
        ({"preset": "big"}, "preset 'big'"),
        ({"config": {"learning_rate": (1e-3,)}}, "learning_rate"),
        ({"options": {"num_seeds": 0}}, "num_seeds=0"),
    ],
)
def test_unknown_names_are_told_before_anything_starts(changes, match):
    with pytest.raises(UserError, match=match):
        plan.expand([entry(**changes)], small_dataset, "s")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": {"learning_rate": (1e-3,)}}, "learning_rate"),
        ({"config": {"actor_lr": ("fast",)}}, "fast"),
        ({"methods": ("bc", "bcc")}, "bcc"),
        ({"options": {"num_seeds": 0}}, "num_seeds=0"),
        ({"methods": ("asp",), "config": {"k": (11,)}}, "k=11.*T=10"),
        ({"methods": ("rev_kl",), "config": {"head": ("deterministic",)}}, "density"),
    ],
)
def test_nothing_is_loaded_before_all_is_checked(changes, words):
    def load(name):
        raise AssertionError(f"{name} was loaded")

    with pytest.raises(UserError, match=words):
        plan.expand([entry(), entry(**changes)], load, "s", lambda _: budget.spec(10))
