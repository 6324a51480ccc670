"""The promises about seeds, layouts, divergence and stages, on tiny runs."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax import methods
from offjax.datasets.views import TransitionView
from offjax.errors import UserError
from offjax.methods import bc
from offjax.runner import run as api
from offjax.runner import sinks
from offjax.runner.options import Options
from offjax.runner.programs import stage_key
from offjax.runner.settings import Job, Setting
from offjax.runner.training import Training

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


def test_run_folder_holds_what_the_contract_says(budget_dataset, tmp_path):
    trainer = train(budget_dataset, tmp_path, eval_every=5)
    scores = rows(trainer, "scores.csv")
    assert [(r["seed"], r["step"]) for r in scores] == [
        ("0", "5"), ("1", "5"), ("0", "10"), ("1", "10"),
    ]  # fmt: skip
    assert len(rows(trainer, "episodes.csv")) == 8
    for row in scores:
        mine = [
            float(e["return"])
            for e in rows(trainer, "episodes.csv")
            if (e["seed"], e["step"]) == (row["seed"], row["step"])
        ]
        np.testing.assert_allclose(np.mean(mine), float(row["return_mean"]), rtol=1e-6)
        expected = budget_dataset.spec.score(np.mean(mine))
        np.testing.assert_allclose(expected, float(row["score"]), atol=1e-3)
    record = json.loads((trainer.path / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["total_steps"] == 10
    assert record["seed_layout"] == "map"
    assert {"jax", "offjax", "python"} <= set(record["versions"])
    config = json.loads((trainer.path / "config.json").read_text())
    assert config["seeds"] == [0, 1]
    assert config["stages"]["asp"]["config"]["hidden_dims"] == [16]


def test_each_program_is_compiled_once_for_a_whole_run(budget_dataset, tmp_path):
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: events.append(name)
    )
    trainer = train(budget_dataset, tmp_path / "few", log_every=10, eval_every=10)
    few = sum("backend_compile" in e for e in events)
    events.clear()
    many_trainer = train(budget_dataset, tmp_path / "many", log_every=3, eval_every=4)
    many = sum("backend_compile" in e for e in events)
    once = {"asp/init": 1, "asp/chunk": 1, "evaluation": 1}
    assert trainer.folder.record["compilations"] == once
    assert many_trainer.folder.record["compilations"] == once
    assert many <= few  # six chunks and three evaluations compile no more than one


def test_chunks_do_not_change_the_result(budget_dataset, tmp_path):
    one = train(budget_dataset, tmp_path / "a", log_every=10)
    other = train(budget_dataset, tmp_path / "b", log_every=3, eval_every=4)
    for a, b in zip(states(one), states(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_shorter_chunks_change_nothing_that_is_written(budget_dataset, tmp_path):
    steps = {"num_steps": (80,)}
    options = {"log_every": 40, "overrides": steps}
    one = train(budget_dataset, tmp_path / "a", **options)
    many = train(budget_dataset, tmp_path / "b", chunk_seconds=1e-6, **options)
    assert rows(many, "metrics.csv") == rows(one, "metrics.csv")
    for a, b in zip(states(one), states(many), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_seed_alone_is_the_same_seed_among_others(budget_dataset, tmp_path):
    together = train(budget_dataset, tmp_path / "a", num_seeds=5, layout="map")
    alone = train(budget_dataset, tmp_path / "b", num_seeds=1, seed=3, layout="map")
    for a, b in zip(states(together), states(alone), strict=True):
        np.testing.assert_array_equal(a[3], b[0])
    score = {r["seed"]: r["score"] for r in rows(together, "scores.csv")}
    assert rows(alone, "scores.csv")[0]["score"] == score["3"]


def test_one_device_gives_what_two_give(budget_dataset, tmp_path):
    two = train(budget_dataset, tmp_path / "a", layout="map")
    assert two.training.stages[-1].layout.active == 2
    one = train(budget_dataset, tmp_path / "b", layout="map", max_devices=1)
    assert one.training.stages[-1].layout.active == 1
    for a, b in zip(states(one), states(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_vmap_agrees_with_map(budget_dataset, tmp_path):
    mapped = train(budget_dataset, tmp_path / "a", layout="map", num_seeds=3)
    vmapped = train(budget_dataset, tmp_path / "b", layout="vmap", num_seeds=3)
    assert vmapped.folder.record["seed_layout"] == "vmap"
    for a, b in zip(states(mapped), states(vmapped), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_values_of_a_scalar_are_slots_of_one_program(budget_dataset, tmp_path):
    trainer = train(
        budget_dataset, tmp_path / "a", overrides={"lr": (1e-3, 1e-2)}, layout="map"
    )
    assert trainer.training.stages[-1].slots.num_slots == 4
    assert trainer.folder.record["compilations"]["asp/chunk"] == 1
    single = train(
        budget_dataset, tmp_path / "b", overrides={"lr": (1e-2,)}, layout="map"
    )
    for a, b in zip(states(trainer), states(single), strict=True):
        np.testing.assert_array_equal(a[2:], b)
    variants = {r["variant"] for r in rows(trainer, "scores.csv")}
    assert len(variants) == 2 and all("preset=demo" in v for v in variants)


def exploding(bad_key):
    """Behavior cloning whose loss turns NaN at step 6 of the seed with this key."""

    def update(state, batch, config, upstream):
        state, metrics = bc.update(state, batch, config, upstream)
        bad = (state.step == 6) & (state.key == bad_key).all()
        factor = jnp.where(bad, jnp.nan, 1.0)
        actor = state.actor
        params = jax.tree.map(lambda p: p * factor, actor.params)
        metrics = {"bc/loss": metrics["bc/loss"] * factor}
        return state.replace(actor=actor.replace(params=params)), metrics

    return dataclasses.replace(bc.METHOD, name="exploding", update=update)


def test_a_diverged_seed_is_frozen_and_the_others_go_on(
    budget_dataset, tmp_path, monkeypatch, capsys
):
    method = exploding(np.asarray(stage_key("bc", 1)))

    def recipe(spec, preset):
        found = bc.recipe(spec, preset)
        stage = dataclasses.replace(found.stages[0], method=method)
        return dataclasses.replace(found, stages=(stage,))

    monkeypatch.setitem(methods.METHODS, "bc", recipe)
    trainer = train(
        budget_dataset,
        tmp_path,
        "bc",
        num_seeds=3,
        log_every=4,
        checkpoint_every=10,
        quiet=False,
    )
    steps = trainer.states["bc"].step
    np.testing.assert_array_equal(steps, [10, 4, 10])
    assert all(np.isfinite(x).all() for x in states(trainer))
    record = json.loads((trainer.path / "run.json").read_text())
    assert record["diverged"] == [
        {"seed": 1, "variant": record["variants"][0], "stage": "bc", "step": 8}
    ]
    assert "seed 1 diverged" in capsys.readouterr().out
    logged = {(r["seed"], r["step"]) for r in rows(trainer, "metrics.csv")}
    assert ("1", "4") in logged and ("1", "8") not in logged and ("2", "10") in logged


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


def test_load_run_acts_and_evaluates_as_it_was_trained(budget_dataset, tmp_path):
    trainer = train(budget_dataset, tmp_path, eval_episodes=3)
    run = api.load_run(trainer.path, budget_dataset)
    scores = api.evaluate(run, episodes=3)
    assert scores.returns.shape == (2, 3)
    expected = [float(r["score"]) for r in rows(trainer, "scores.csv")]
    np.testing.assert_allclose(scores.scores.mean(1), expected, rtol=1e-4)

    from offjax import envs

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


def test_resuming_another_configuration_is_refused(budget_dataset, tmp_path):
    trainer = train(budget_dataset, tmp_path)
    record = trainer.folder.record | {"status": "running"}
    (trainer.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"num_seeds|seeds|another configuration"):
        train(budget_dataset, tmp_path, resume=True, num_seeds=3)


@pytest.mark.parametrize(
    ("method", "overrides", "words"),
    [
        ("iql", {"expectil": 0.7}, "Did you mean expectile"),
        ("iql", {"expectile": [0.7, 7.0]}, "expectile=7.0"),
        ("iql", {"iql.critic_lr": "fast"}, "fast"),
        ("iqll", {}, "Did you mean iql"),
    ],
)
def test_a_request_is_checked_when_it_is_made(method, overrides, words):
    with pytest.raises(UserError, match=words):
        api.recipe(method, **overrides)


@pytest.mark.parametrize(
    ("request_", "options", "words"),
    [
        ("bc", {"evl_episodes": 2}, "Did you mean eval_episodes"),
        ("bc", {"eval_episodes": 0}, "eval_episodes=0"),
        (methods.build("bc", None, "demo"), {}, "not a Recipe"),
    ],
)
def test_training_checks_what_it_is_given_before_it_loads(request_, options, words):
    with pytest.raises(UserError, match=words):
        api.train(request_, "no/such-dataset-v0", **options)


def test_a_misspelt_environment_is_refused_before_training(budget_dataset, tmp_path):
    spec = dataclasses.replace(budget_dataset.spec, id="offjax/BudgetAlocation-v0")
    wrong = dataclasses.replace(budget_dataset, spec=spec)
    with pytest.raises(UserError, match="Did you mean offjax/BudgetAllocation-v0"):
        train(wrong, tmp_path)
    assert not list(tmp_path.rglob("run.json"))


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
    budget_dataset, tmp_path, capsys
):
    trainer = train(budget_dataset, tmp_path, checkpoint_every=5)
    scores = (trainer.path / "scores.csv").read_text()
    record = trainer.folder.record | {"status": "running"}
    (trainer.path / "run.json").write_text(json.dumps(record))
    newest = trainer.path / "checkpoints" / "10"
    for file in newest.rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(b"\0" * 10)
    options = {"checkpoint_every": 5, "reuse_stages": False, "quiet": False}
    again = train(budget_dataset, tmp_path, resume=True, **options)
    printed = capsys.readouterr()
    assert "checkpoints/10 is corrupt" in printed.out + printed.err
    assert "at step 5" in printed.out + printed.err
    assert (again.path / "scores.csv").read_text() == scores


def test_a_foreign_checkpoint_is_refused(budget_dataset, tmp_path):
    trainer = train(budget_dataset, tmp_path, checkpoint_every=5)
    other = train(budget_dataset, tmp_path, "bc", checkpoint_every=5)
    record = trainer.folder.record | {"status": "running"}
    (trainer.path / "run.json").write_text(json.dumps(record))
    import shutil

    shutil.rmtree(trainer.path / "checkpoints")
    shutil.copytree(other.path / "checkpoints", trainer.path / "checkpoints")
    with pytest.raises(UserError, match="another configuration"):
        train(budget_dataset, tmp_path, resume=True)


def test_every_value_of_a_list_is_validated_before_anything_is_written(
    budget_dataset, tmp_path
):
    with pytest.raises(UserError, match="kl_weight"):
        train(budget_dataset, tmp_path, overrides={"kl_weight": (0.0, 0.2)})
    with pytest.raises(UserError, match="paper"):
        train(budget_dataset, tmp_path, log=("paper",))
    assert not list(tmp_path.iterdir())


def test_a_stage_is_known_by_the_versions_of_its_code(budget_dataset, tmp_path):
    def key(stage):
        recipe = bc.recipe(budget_dataset.spec, "demo")
        recipe = dataclasses.replace(recipe, stages=(stage(recipe.stages[0]),))
        job = Job(recipe, (Setting((), "default"),), {})
        options = Options(num_seeds=1, runs_dir=str(tmp_path))
        return Training.of(job, "bc", "demo", budget_dataset, options).stages[0].key

    class Documented(TransitionView):
        """The view, with another text about it."""

    class Changed(TransitionView):
        VERSION = 2

    for view in (Documented, Changed):  # the same place in the code as the original
        view.__name__, view.__module__ = "TransitionView", TransitionView.__module__
    same = key(lambda stage: dataclasses.replace(stage, view=Documented()))
    assert same == key(lambda stage: stage)
    assert same != key(lambda stage: dataclasses.replace(stage, view=Changed()))
    newer = dataclasses.replace(bc.METHOD, version=bc.METHOD.version + 1)
    assert same != key(lambda stage: dataclasses.replace(stage, method=newer))


def test_a_run_is_loaded_as_it_was_trained_whatever_its_recipe_is_today(
    budget_dataset, tmp_path, monkeypatch
):
    run = train(budget_dataset, tmp_path, "bc")
    observation = np.zeros(budget_dataset.spec.observation_dim, np.float32)
    expected = run.agent(seed=1).act(observation)

    def edited(spec, preset):
        return bc.recipe(spec, preset).with_config("bc", hidden_dims=(5,), actor_lr=1.0)

    monkeypatch.setitem(methods.METHODS, "bc", edited)
    found = api.load_run(run.path, budget_dataset)
    np.testing.assert_array_equal(found.agent(seed=1).act(observation), expected)


def test_another_precision_is_another_run_and_goes_with_its_folder(
    budget_dataset, tmp_path
):
    plain = train(budget_dataset, tmp_path)
    exact = train(budget_dataset, tmp_path, matmul_precision="float32")
    assert "matmul_precision" not in plain.training.config
    assert exact.training.config["matmul_precision"] == "float32"
    assert plain.training.stages[0].key != exact.training.stages[0].key
    found = api.load_run(exact.path, budget_dataset)
    assert found.training.options.matmul_precision == "float32"
    for a, b in zip(states(plain), states(exact), strict=True):
        np.testing.assert_array_equal(a, b)  # a CPU's products are float32 anyway


def test_a_profile_is_written_beside_the_run(budget_dataset, tmp_path, capsys):
    plain = train(budget_dataset, tmp_path / "a", log_every=4)
    traced = train(
        budget_dataset, tmp_path / "b", log_every=4, profile=str(tmp_path / "trace")
    )
    assert len([*(tmp_path / "trace").rglob("perfetto_trace.json.gz")]) == 1
    assert traced.training.hash == plain.training.hash
    train(budget_dataset, tmp_path / "b", profile=str(tmp_path / "trace"), quiet=False)
    assert "not profiled (--noreuse_stages)" in capsys.readouterr().out
    for a, b in zip(states(plain), states(traced), strict=True):
        np.testing.assert_array_equal(a, b)
