"""Scores of environments that the host steps: with and behind the training."""

import csv
import dataclasses
import types

import gymnasium
import jax
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.runner import evaluator as module
from offjax.runner import run as api
from offjax.runner.options import Options
from offjax.runner.train import Trainer, make_jobs

TINY = {"num_steps": (12,), "hidden_dims": ((8,),), "batch_size": (8,)}
FILES = ("scores.csv", "episodes.csv", "metrics.csv")


class Sums(gymnasium.Env):
    """Observes zeros after a random start; rewards Σa; ends after at most 6 steps."""

    render_mode = "rgb_array"

    def __init__(self, width, actions):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (width,))
        self.action_space = gymnasium.spaces.Box(0, 1, (actions,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(3, 7))
        start = self.np_random.normal(size=self.observation_space.shape)
        return start.astype(np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.left -= 1
        zeros = np.zeros(self.observation_space.shape, np.float32)
        return zeros, float(action.sum()), self.left == 0, False, {}

    def render(self):
        return np.full((32, 32, 3), 40 * self.left, np.uint8)


@pytest.fixture(scope="module")
def dataset(budget_dataset):
    """The small dataset, evaluated in `Sums`."""
    width, actions = (
        budget_dataset.observations.shape[1],
        budget_dataset.actions.shape[1],
    )
    gymnasium.register(
        "test/Sums-v0", lambda **_: Sums(width, actions), disable_env_checker=True
    )
    spec = dataclasses.replace(
        budget_dataset.spec, id="test/Sums-v0", kwargs=(), horizon=5
    )
    yield dataclasses.replace(budget_dataset, spec=spec)
    del gymnasium.registry["test/Sums-v0"]


def train(dataset, folder, **options):
    job = make_jobs("bc", "demo", dataset, TINY)[0]
    defaults = dict(
        num_seeds=2, eval_every=4, eval_episodes=3, log_every=4, checkpoint_every=4,
        quiet=True,
    )  # fmt: skip
    chosen = Options(runs_dir=str(folder), **(defaults | options))
    trainer = Trainer(job, "bc", "demo", dataset, chosen)
    trainer.run()
    return trainer


@pytest.fixture(scope="module")
def in_turn(dataset, tmp_path_factory):
    return train(dataset, tmp_path_factory.mktemp("turn"), eval_behind="off")


def rows(trainer, file):
    with (trainer.folder.path / file).open() as lines:
        return list(csv.DictReader(lines))


def test_every_episode_is_recorded(in_turn, dataset):
    scores = rows(in_turn, "scores.csv")
    assert [(r["seed"], r["step"]) for r in scores] == [
        (seed, step) for step in ("4", "8", "12") for seed in ("0", "1")
    ]
    episodes = rows(in_turn, "episodes.csv")
    assert len(episodes) == 18
    assert {int(r["length"]) for r in episodes} <= {3, 4, 5}
    last = [float(r["return"]) for r in episodes if r["step"] == "12"]
    expected = dataset.spec.score(np.mean(np.reshape(last, (2, 3)), axis=1))
    found = [float(r["score"]) for r in scores[-2:]]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    clipped = [r for r in rows(in_turn, "metrics.csv") if "clipped" in r["name"]]
    assert len(clipped) == 6 and all(0 <= float(r["value"]) <= 1 for r in clipped)


def test_the_record_names_the_environment(in_turn):
    record = in_turn.folder.record
    assert record["evaluation_environment"] == {
        "id": "test/Sums-v0", "kwargs": {}, "horizon": 5, "stepped_by": "gymnasium"
    }  # fmt: skip
    assert record["compilations"]["evaluation"] <= 3


def test_evaluation_behind_training_changes_nothing(in_turn, dataset, tmp_path):
    behind = train(dataset, tmp_path, eval_behind="on")
    assert behind.evaluator.behind and not in_turn.evaluator.behind
    for file in FILES:
        text = (behind.folder.path / file).read_text()
        assert text == (in_turn.folder.path / file).read_text(), file
    for a, b in zip(
        jax.tree.leaves(behind.stages[-1].states),
        jax.tree.leaves(in_turn.stages[-1].states),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


class Killed(Exception):
    """Stands for the process that ends here."""


def test_a_run_killed_behind_goes_on_as_if_nothing_had_happened(
    in_turn, dataset, tmp_path, monkeypatch
):
    def die(self, state, *, at=8):
        if state == at:
            raise Killed
        return evaluate(self, state)

    evaluate = Trainer._evaluate
    monkeypatch.setattr(Trainer, "_evaluate", die)
    with pytest.raises(Killed):
        train(dataset, tmp_path, eval_behind="on")
    monkeypatch.undo()
    resumed = train(dataset, tmp_path, resume=True, eval_behind="on")
    for file in FILES:
        text = (resumed.folder.path / file).read_text()
        assert text == (in_turn.folder.path / file).read_text(), file


def test_a_loaded_run_is_evaluated_as_it_was(in_turn, dataset):
    run = api.load_run(in_turn.folder.path, dataset)
    scores = api.evaluate(run, episodes=2)
    recorded = [r for r in rows(in_turn, "episodes.csv") if r["step"] == "12"]
    for seed in range(2):
        mine = [float(r["return"]) for r in recorded if r["seed"] == str(seed)]
        np.testing.assert_allclose(scores.returns[seed], mine[:2], rtol=1e-6)


def test_videos_show_the_episodes_that_are_counted(in_turn, dataset, tmp_path):
    imageio = pytest.importorskip("imageio.v2")
    paths = in_turn.evaluator.film(2, tmp_path, eval_seed=0)
    recorded = [r for r in rows(in_turn, "episodes.csv") if r["step"] == "12"]
    assert [p.name[-23:] for p in paths] == [
        f"seed0-set0-episode{i}.mp4" for i in range(2)
    ]
    for path, row in zip(paths, recorded[:2], strict=True):
        frames = imageio.mimread(path)
        assert row["seed"] == "0" and len(frames) == int(row["length"]) + 1
        left = [round(frame.mean() / 40) for frame in frames]
        assert left == list(range(left[0], left[0] - len(left), -1))


def test_without_the_environment_training_goes_on(dataset, tmp_path, capsys):
    spec = dataclasses.replace(dataset.spec, id="AdroitHandNowhere-v1")
    trainer = train(dataclasses.replace(dataset, spec=spec), tmp_path, quiet=False)
    told = capsys.readouterr().out
    assert "no scores are recorded" in told and "robotics" in told
    assert trainer.folder.record["status"] == "finished"
    assert trainer.folder.record["evaluation_environment"] is None
    assert rows(trainer, "scores.csv") == []
    with pytest.raises(UserError, match="robotics"):
        api.evaluate(api.Run(trainer.folder, trainer))


def test_no_environment_is_taken_for_another(dataset, tmp_path):
    spec = dataclasses.replace(
        dataset.spec, id="kitchen-mixed-v0", domain="kitchen", kwargs=()
    )
    trainer = train(dataclasses.replace(dataset, spec=spec), tmp_path)
    assert "kitchen-mixed-v0" in trainer.evaluator.missing
    assert "another order" in trainer.evaluator.missing


def test_an_unknown_setting_is_refused(dataset, tmp_path):
    with pytest.raises(UserError, match="eval_behind"):
        train(dataset, tmp_path, eval_behind="maybe")


def test_beside_an_accelerator_a_cheap_policy_acts_on_the_cores(
    in_turn, dataset, monkeypatch
):
    """A stand-in for the accelerator: what is chosen, not what it would compute."""
    accelerator = types.SimpleNamespace(
        devices=(types.SimpleNamespace(platform="gpu"),), kind="vmap"
    )
    monkeypatch.setattr(module, "layout_of", lambda *_: accelerator)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    evaluators = [
        module.Evaluator(
            in_turn.job,
            dataset,
            Options(num_seeds=2, eval_behind=chosen),
            in_turn.stages,
        )
        for chosen in ("auto", "off", "auto")
    ]
    layout = evaluators[0]._acting_layout(evaluators[0].acting_slots()[1])
    assert layout.kind == "map" and layout.devices[0].platform == "cpu"
    assert layout.num_slots == 2
    assert evaluators[0].behind and not evaluators[1].behind
    monkeypatch.setattr(module, "HOST_FLOPS", 1.0)
    assert not evaluators[2].behind
    assert evaluators[2]._acting_layout(evaluators[2].acting_slots()[1]) is accelerator


def test_beside_an_accelerator_the_first_evaluation_knows_what_acts(
    dataset, tmp_path, monkeypatch
):
    """Where the policy acts is decided by what it costs, of states that are there."""
    asked = []
    acting_layout = module.Evaluator._acting_layout

    def look(self, params):
        asked.append(params)
        assert module.host.flops_per_action(self.agent(), params, dataset.spec) > 0
        return acting_layout(self, params)

    monkeypatch.setattr(module.Evaluator, "_acting_layout", look)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    trainer = train(dataset, tmp_path, eval_behind="auto")
    assert asked and trainer.evaluator.behind
