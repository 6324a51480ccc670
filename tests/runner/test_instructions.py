"""A run on a scene's play: trained, given instructions, and its trials recorded."""

import csv

import numpy as np
import pytest

from experiments.lcd import rollouts
from offjax.catalog import collected, load
from offjax.datasets import minari_io
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, annotate
from offjax.envs.scene_batch import SceneBatch
from offjax.errors import UserError
from offjax.runner.options import Options
from offjax.runner.run import load_run
from offjax.runner.train import train
from offjax.runner.training import Training, make_jobs

NAME = "offjax/scene/play-v0"
TINY = {"num_steps": (2,), "batch_size": (4,), "hidden_dims": ((8,),)}


@pytest.fixture(scope="module")
def play():
    """Two hundred steps of noise, described as if they meant something."""
    rng = np.random.default_rng(0)
    spec = collected.parse(NAME).spec()
    timeouts = np.arange(200) % 100 == 99
    recording = Dataset.from_arrays(
        rng.normal(size=(200, spec.observation_dim)),
        rng.uniform(-1, 1, (200, spec.action_dim)),
        np.zeros(200),
        np.zeros(200, bool),
        timeouts,
        spec=spec,
        id=NAME,
    )
    starts = np.array([0, 40, 110])
    which = np.array([0, 1, 0])
    names, sentences = ("open_drawer", "close_window"), ("open it", "close the window")
    return annotate(
        recording, Annotations(starts, starts + 30, which, which, names, sentences)
    )


def test_trials_are_recorded(play, tmp_path):
    pytest.importorskip("ogbench")
    options = Options(
        num_seeds=2, eval_episodes=2, eval_chains=1, runs_dir=str(tmp_path), quiet=True
    )
    (job,) = make_jobs("gcbc", "demo", play, TINY)
    path = train(Training.of(job, "gcbc", "demo", play, options)).path

    def rows(file):
        with (path / file).open() as lines:
            return list(csv.DictReader(lines))

    scores, episodes = rows("scores.csv"), rows("episodes.csv")
    assert [(r["seed"], r["episodes"]) for r in scores] == [("0", "2"), ("1", "2")]
    assert len(episodes) == 2 * (2 + 1)  # two single instructions and a chain each
    for score in scores:
        mine = [r for r in episodes if r["seed"] == score["seed"]]
        singles, chain = mine[:2], mine[2]
        share = np.mean([float(r["return"]) for r in singles])
        assert float(score["score"]) == pytest.approx(100 * share)
        assert float(score["return_mean"]) == float(chain["return"])
        assert all(0 < int(r["length"]) <= 150 for r in singles)
    measured = {r["name"] for r in rows("metrics.csv")}
    assert {"evaluation/success", "evaluation/chain_average"} <= measured


def actor(method, dataset, **settings):
    overrides = {name.replace("__", "."): (v,) for name, v in settings.items()}
    (job,) = make_jobs(method, "demo", dataset, overrides)
    return job.recipe.actor(job.recipe)


def test_the_text_encoder_is_the_recipes(play):
    task = actor("lcd", play, text_encoder="hash").embed(["open it", "close it"])
    assert len(task["sentence"]) == 2 and task["mask"].any()
    with pytest.raises(UserError, match="'minilm' needs weights"):
        actor("lcd", play, text_encoder="minilm").embed(["open it"])


@pytest.mark.parametrize(
    ("method", "setting", "read"),
    [
        ("lcd", "planner__text_encoder", True),
        ("lcd", "gcbc__text_encoder", False),  # it pursues latents
        ("lcd_hulc", "planner__text_encoder", True),
        ("lcd_hulc", "hulc__text_encoder", False),
        ("hulc", "text_encoder", True),
    ],
)
def test_the_text_encoder_is_that_of_the_stage_that_reads_instructions(
    play, method, setting, read
):
    found = actor(method, play, **{setting: "minilm"})
    if read:
        with pytest.raises(UserError, match="'minilm' needs weights"):
            found.embed(["open the drawer"])
    else:
        assert found.embed(["open the drawer"])["tokens"].shape[-1] == 64


def test_methods_without_instructions_say_so(play):
    with pytest.raises(UserError, match="follows no instructions"):
        actor("td3_bc", play).embed(["open it"])


@pytest.mark.long
def test_rollouts_are_data_for_the_planner(play, tmp_path, monkeypatch):
    """Of a policy that knows nothing, in a scene where half of all steps succeed."""
    pytest.importorskip("ogbench")
    monkeypatch.setattr(
        SceneBatch, "succeeded", lambda self, places: np.arange(len(places)) % 2 == 0
    )
    options = Options(num_seeds=2, eval_episodes=1, runs_dir=str(tmp_path), quiet=True)
    (job,) = make_jobs("gcbc", "demo", play, TINY)
    run = load_run(train(Training.of(job, "gcbc", "demo", play, options)).path, play)
    made_from = rollouts.specification(run, 3, 1)
    given = rollouts.chains(run, 3, 1)
    found = rollouts.collect(run, given, made_from)
    assert len(found.annotations) > 10 and found.card.id.startswith("rollouts/gcbc-")
    minari_io.write(found, made_from, tmp_path / "data")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    again = load.load_dataset(found.card.id)
    assert again.card.identity == found.card.identity
    np.testing.assert_array_equal(again.annotations.ends, found.annotations.ends)
    settings = {"planner.rollouts": (found.card.id,), "planner.horizon": (1,)}
    settings |= {"planner.stride": (1,), "replan": (1,), **TINY}
    (job,) = make_jobs("lcd_mlp", "demo", play, settings)
    train(Training.of(job, "lcd_mlp", "demo", play, options))
