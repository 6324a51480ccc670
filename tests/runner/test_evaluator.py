"""Scores of environments that the host steps: with and behind the training."""

import dataclasses
import types

import gymnasium
import jax
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.runner import rollouts, sinks
from offjax.runner import run as api
from offjax.runner.evaluator import Evaluator
from tests.runner.tiny_training import rows

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
    defaults = dict(
        num_seeds=2, eval_every=4, eval_episodes=3, log_every=4, checkpoint_every=4,
        quiet=True,
    )  # fmt: skip
    request = api.Request("bc", "demo", TINY)
    return api.train(request, dataset, runs_dir=str(folder), **(defaults | options))


@pytest.fixture(scope="module")
def in_turn(dataset, tmp_path_factory):
    return train(dataset, tmp_path_factory.mktemp("turn"), eval_behind="off")


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
        text = (behind.path / file).read_text()
        assert text == (in_turn.path / file).read_text(), file
    for a, b in zip(
        jax.tree.leaves(behind.states),
        jax.tree.leaves(in_turn.states),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


class Killed(Exception):
    """Stands for the process that ends here."""


class Deadly:
    """A sink that ends the process when the second evaluation is written."""

    package = "json"

    def __init__(self, folder, config):
        pass

    def write(self, rows):
        if any(r[0] == 8 and r[3].startswith("evaluation/") for r in rows):
            raise Killed

    def close(self):
        pass


def test_a_run_killed_behind_goes_on_as_if_nothing_had_happened(
    in_turn, dataset, tmp_path, monkeypatch
):
    monkeypatch.setitem(sinks.SINKS, "deadly", Deadly)
    with pytest.raises(Killed):
        train(dataset, tmp_path, eval_behind="on", log=("deadly",))
    resumed = train(dataset, tmp_path, resume=True, eval_behind="on")
    for file in FILES:
        text = (resumed.path / file).read_text()
        assert text == (in_turn.path / file).read_text(), file


def test_a_loaded_run_is_evaluated_as_it_was(in_turn, dataset):
    run = api.load_run(in_turn.path, dataset)
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
        api.evaluate(trainer)


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
    monkeypatch.setattr(rollouts, "layout_of", lambda *_: accelerator)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    def behind(chosen):
        options = dataclasses.replace(in_turn.training.options, eval_behind=chosen)
        training = dataclasses.replace(in_turn.training, options=options)
        return Evaluator(training).behind

    assert behind("auto") and not behind("off")
    monkeypatch.setattr(rollouts, "HOST_FLOPS", 1.0)
    assert not behind("auto")
