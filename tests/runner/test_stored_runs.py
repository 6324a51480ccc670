"""Runs that end early, go on or are loaded; stages taken from the store."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from offjax import envs, methods
from offjax.datasets.views import TransitionView
from offjax.errors import UserError
from offjax.methods import bc
from offjax.runner import run as api
from offjax.runner import sinks
from offjax.runner.digests import of_slots
from offjax.runner.options import Options
from offjax.runner.settings import Job, Setting
from offjax.runner.training import Training
from offjax.types import added, config
from tests.runner.tiny_training import PLAIN, rows, states, train


def test_a_stage_that_was_trained_is_taken_from_the_store(
    budget_dataset, tmp_path, capsys
):
    first = train(budget_dataset, tmp_path)
    again = train(budget_dataset, tmp_path, quiet=False)
    assert "trained before" in capsys.readouterr().out
    assert again.folder.record["compilations"] == {"evaluation": 1}
    assert rows(again, "scores.csv") == rows(first, "scores.csv")
    fresh = train(budget_dataset, tmp_path, reuse_stages=False)
    assert fresh.folder.record["compilations"]["asp/chunk"] == 1


def test_runs_and_stages_are_known_by_the_versions_of_their_code(
    budget_dataset, tmp_path
):
    def keys(stage):
        recipe = bc.recipe(budget_dataset.spec, "demo")
        recipe = dataclasses.replace(recipe, stages=(stage(recipe.stages[0]),))
        job = Job(recipe, (Setting((), "default"),), {})
        options = Options(num_seeds=1, runs_dir=str(tmp_path))
        training = Training.of(job, "bc", "demo", budget_dataset, options)
        return training.stages[0].key, training.hash

    class Documented(TransitionView):
        """The view, with another text about it."""

    class Changed(TransitionView):
        VERSION = 2

    for view in (Documented, Changed):  # the same place in the code as the original
        view.__name__, view.__module__ = "TransitionView", TransitionView.__module__
    same = keys(lambda stage: dataclasses.replace(stage, view=Documented()))
    assert same == keys(lambda stage: stage)
    newer = dataclasses.replace(bc.METHOD, version=bc.METHOD.version + 1)
    for change in (
        {"view": Changed()},
        {"view": TransitionView(normalize=False)},
        {"method": newer},
    ):
        found = keys(lambda stage, change=change: dataclasses.replace(stage, **change))
        assert found[0] != same[0]
        assert found[1] != same[1]


def test_an_added_hyperparameter_at_its_default_leaves_runs_what_they_are(
    budget_dataset, tmp_path
):
    @config
    class Wider(bc.Config):
        smoothing: float = added(default=0.0)
        layers: tuple[int, ...] = added(default=(1,))

    def keys(**changes):
        recipe = bc.recipe(budget_dataset.spec, "demo")
        stage = recipe.stages[0]
        if changes:
            fields = dataclasses.asdict(stage.config) | changes
            stage = dataclasses.replace(stage, config=Wider(**fields))
        recipe = dataclasses.replace(recipe, stages=(stage,))
        job = Job(recipe, (Setting((), "default"),), {})
        options = Options(num_seeds=1, runs_dir=str(tmp_path))
        training = Training.of(job, "bc", "demo", budget_dataset, options)
        return training.stages[0].key, training.hash

    assert keys(smoothing=0.0) == keys(layers=(1,)) == keys()
    for other in (keys(smoothing=0.5), keys(layers=(2,))):
        assert other[0] != keys()[0]
        assert other[1] != keys()[1]


def test_load_run_acts_and_evaluates_as_it_was_trained(plain, budget_dataset):
    run = api.load_run(plain.path, budget_dataset)
    scores = api.evaluate(run, episodes=3)
    assert scores.returns.shape == (2, 3)
    expected = [float(r["score"]) for r in rows(plain, "scores.csv")[-2:]]
    np.testing.assert_allclose(scores.scores.mean(1), expected, rtol=1e-4)

    agent = run.agent(seed=1)
    env = envs.make(budget_dataset.spec)
    state = env.initial(jax.random.PRNGKey(0))
    total = 0.0
    for _ in range(10):
        action = agent.act(env.observation(state, None))
        following = env.transition(state, action, jax.random.PRNGKey(0))
        total += float(env.reward(state, action, following, jax.random.PRNGKey(0)))
        state = following
    np.testing.assert_allclose(total, scores.returns[1, 0], rtol=1e-5)


def test_a_run_is_loaded_as_it_was_trained_whatever_its_recipe_is_today(
    budget_dataset, tmp_path, monkeypatch
):
    run = train(budget_dataset, tmp_path, "bc")
    observation = np.zeros(budget_dataset.spec.observation_dim, np.float32)
    expected = run.agent(seed=1).act(observation)

    def edited(spec, preset):
        recipe = bc.recipe(spec, preset)
        recipe = recipe.with_config("bc", hidden_dims=(5,), actor_lr=1.0)
        raw = dataclasses.replace(
            recipe.stages[0], view=TransitionView(normalize=False)
        )
        return dataclasses.replace(recipe, stages=(raw,))

    trained = run.training.job.recipe.stages[0].view
    monkeypatch.setitem(methods.METHODS, "bc", edited)
    found = api.load_run(run.path, budget_dataset)
    assert trained != TransitionView(normalize=False)
    assert found.training.job.recipe.stages[0].view == trained
    np.testing.assert_array_equal(found.agent(seed=1).act(observation), expected)


def test_another_precision_is_another_run_and_goes_with_its_folder(
    plain, budget_dataset, tmp_path
):
    exact = train(budget_dataset, tmp_path, matmul_precision="float32")
    assert "matmul_precision" not in plain.training.config
    assert exact.training.config["matmul_precision"] == "float32"
    assert plain.training.stages[0].key != exact.training.stages[0].key
    found = api.load_run(exact.path, budget_dataset)
    assert found.training.options.matmul_precision == "float32"
    for a, b in zip(states(plain), states(exact), strict=True):
        np.testing.assert_array_equal(a, b)  # a CPU's products are float32 anyway


def test_resuming_another_configuration_is_refused(copied, budget_dataset, tmp_path):
    with pytest.raises(UserError, match=r"num_seeds|seeds|another configuration"):
        train(budget_dataset, tmp_path, resume=True, num_seeds=3, **PLAIN)


class Failing:
    """A sink that fails at the first row."""

    package, error = "json", RuntimeError("the sink is broken")

    def __init__(self, folder, config):
        pass

    def write(self, rows):
        raise self.error

    def close(self):
        pass


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("the sink refuses"), "failed"),
        (RuntimeError("the sink is broken"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_a_run_that_ends_early_says_so_and_leaves_others_alone(
    budget_dataset, tmp_path, monkeypatch, error, status
):
    monkeypatch.setitem(sinks.SINKS, "failing", Failing)
    monkeypatch.setattr(Failing, "error", error)
    with pytest.raises(type(error)):
        train(budget_dataset, tmp_path, log=("failing",), checkpoint_every=2)
    (path,) = (tmp_path / "asp").rglob("run.json")
    record = json.loads(path.read_text())
    assert record["status"] == status
    with pytest.raises(UserError, match=str(error) or "--resume"):
        api.finished(path.parent)
    train(budget_dataset, tmp_path, resume=True, num_seeds=1)


def test_a_corrupt_checkpoint_is_named_and_the_one_before_used(
    copied, budget_dataset, tmp_path, capsys
):
    scores = (copied / "scores.csv").read_text()
    newest = copied / "checkpoints" / "10"
    for file in newest.rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(b"\0" * 10)
    options = PLAIN | {"reuse_stages": False, "quiet": False}
    again = train(budget_dataset, tmp_path, resume=True, **options)
    printed = capsys.readouterr()
    assert "checkpoints/10 is damaged" in printed.out + printed.err
    assert "at step 5" in printed.out + printed.err
    assert (again.path / "scores.csv").read_text() == scores


def test_a_foreign_checkpoint_is_refused(copied, budget_dataset, tmp_path):
    other = train(budget_dataset, tmp_path, "bc", checkpoint_every=5)
    shutil.rmtree(copied / "checkpoints")
    shutil.copytree(other.path / "checkpoints", copied / "checkpoints")
    with pytest.raises(UserError, match="another configuration"):
        train(budget_dataset, tmp_path, resume=True, **PLAIN)


def test_digests_are_those_of_a_training_that_was_not_interrupted(
    budget_dataset, tmp_path
):
    def digests(run):
        return run.training.store.meta(run.training.stages[-1].key)["digests"]

    run = train(budget_dataset, tmp_path, checkpoint_every=2)
    whole = digests(run)
    assert [step for step, _ in whole] == [2, 4, 6, 8, 10]
    assert whole[-1][1] == of_slots(run.states["asp"])
    record = run.folder.record | {"status": "running"}
    (run.path / "run.json").write_text(json.dumps(record))
    shutil.rmtree(run.path / "checkpoints" / "10")
    shutil.rmtree(tmp_path / "stages")
    again = train(budget_dataset, tmp_path, checkpoint_every=2, resume=True)
    assert again.path == run.path and digests(again) == whole
