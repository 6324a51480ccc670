"""CALVIN's folder from training to chains, with a stand-in for its simulator."""

import csv
import dataclasses
import itertools

import numpy as np
import pytest

from experiments.lcd import calvin as command
from offjax.datasets import calvin as data
from offjax.datasets import calvin_export
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, annotate
from offjax.envs import calvin as simulator
from offjax.errors import UserError
from offjax.evaluation import chains, environments
from offjax.evaluation.instructions import Outcome
from offjax.runner.options import Options
from offjax.runner.run import load_run
from offjax.runner.train import train
from offjax.runner.training import Training, make_jobs

TASKS = tuple(chains.tasks())
TINY = {"num_steps": (2,), "batch_size": (4,), "hidden_dims": ((8,),)}


class Table:
    """A stand-in for `PlayTableSimEnv`: every step raises the robot's first entry."""

    def reset(self, robot_obs, scene_obs):
        self.robot, self.scene = robot_obs.copy(), scene_obs.copy()
        return self.get_obs()

    def get_obs(self):
        robot = getattr(self, "robot", np.zeros(15))
        scene = getattr(self, "scene", np.zeros(24))
        return {"robot_obs": robot, "scene_obs": scene, "rgb_obs": {}, "depth_obs": {}}

    def get_info(self):
        return {"x": self.robot[0]}

    def step(self, action):
        assert action.shape == (7,)
        self.robot[0] += 1
        return self.get_obs(), 0, False, self.get_info()


class Tasks:
    """Done at the third step, but for one task, which never is."""

    def get_task_info_for_set(self, start, end, wanted):
        never = "close_drawer" in wanted
        return set() if never or end["x"] - start["x"] < 3 else wanted


class StandIn(simulator.Simulators):
    @classmethod
    def missing(cls):
        return None

    def build(self, dataset):
        return Table()

    def tasks(self):
        return Tasks()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """All tasks once, six frames each, with a state's 39 entries and 7 actions."""
    monkeypatch.setenv("OFFJAX_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    rows = 6 * len(TASKS)
    states = rng.normal(size=(rows + 1, 39)).astype(np.float32)
    timeouts = np.arange(rows) == rows - 1
    play = Dataset.from_arrays(
        states[:-1],
        rng.uniform(-1, 1, (rows, 7)),
        np.zeros(rows),
        np.zeros(rows, bool),
        timeouts,
        states[1:],
        id="test/table-v0",
    )
    which, starts = np.arange(len(TASKS)), 6 * np.arange(len(TASKS))
    said = tuple(f"please {task.replace('_', ' ')}" for task in TASKS)
    spans = Annotations(starts, starts + 6, which, which, TASKS, said)
    for split in ("training", "validation"):
        calvin_export.write(annotate(play, spans), tmp_path / "task", split)
    return tmp_path / "task"


@pytest.fixture
def run(folder, tmp_path):
    """Trained with the embeddings that the folder holds."""
    table = {"text_encoder": ("table",), "text_weights": (str(folder),)}
    dataset = data.read(folder)
    (job,) = make_jobs("gcbc", "demo", dataset, TINY | table)
    options = Options(num_seeds=2, runs_dir=str(tmp_path / "runs"), quiet=True)
    path = train(Training.of(job, "gcbc", "demo", dataset, options)).path
    return load_run(path, data.read(folder))


def test_from_a_folder_to_chains(folder, run):
    named = command.trials("chains", data.sentences(folder), num_chains=4)
    outcome = command.carry_out(run, named["chains"], 0, StandIn)
    expected = [
        len([*itertools.takewhile(lambda name: name != "close_drawer", trial.names)])
        for trial in named["chains"]
    ]
    assert outcome.solved.tolist() == [expected, expected]
    found = command.rows(run, named, outcome)
    first = {row[2]: row[3] for row in found if row[1] == 0}
    assert first["chain average"] == np.mean(expected)
    assert first["chain 5"] == 100 * np.mean(np.equal(expected, 5))
    path = run.path / "trials" / "calvin-chains-4.csv"
    command.write(path, found)
    with path.open() as lines:
        assert len(list(csv.DictReader(lines))) == 2 * 6


def test_another_observation_is_refused(run):
    dataset = run.training.dataset
    spec = dataclasses.replace(dataset.spec, observation_dim=40)
    other = dataclasses.replace(dataset, spec=spec)
    training = dataclasses.replace(run.training, dataset=other)
    run = dataclasses.replace(run, training=training)
    given = command.trials("chains", dict(zip(TASKS, TASKS, strict=True)), 1)["chains"]
    with pytest.raises(UserError, match=r"40 numbers a frame, but .* shows 39"):
        command.carry_out(run, given, 0, StandIn)


def test_single_tasks_are_counted_by_their_last_task(run):
    said = dict.fromkeys(TASKS, "do it")
    named = command.trials("held_out", said, num_chains=192, count=2)
    assert tuple(named) == chains.HELD_OUT
    given = [trial for each in named.values() for trial in each]
    lengths = np.array([len(trial.names) for trial in given])
    assert all(t.names[-1] == n for n, each in named.items() for t in each)
    solved = np.stack([lengths, lengths])
    solved[1, 0] -= 1
    found = command.rows(run, named, Outcome(solved, solved))
    values = {(row[1], row[2]): row[3] for row in found}
    assert values[0, "average"] == 100 and values[1, "average"] == 90
    assert values[1, chains.HELD_OUT[0]] == 50
    assert [row[4] for row in found[:6]] == [2] * 5 + [10]


def test_held_out_tasks_are_a_setting_of_the_planner(folder):
    dataset = data.read(folder)
    (job,) = make_jobs("lcd", "demo", dataset, command.held_out({}))
    planner = next(s.config for s in job.recipe.stages if s.name == "planner")
    assert planner.held_out == chains.HELD_OUT
    with pytest.raises(UserError, match=r"planner\.held_out"):
        make_jobs("gcbc", "demo", dataset, command.held_out({}))


def test_where_scores_of_its_data_come_from(folder):
    reason = environments.missing(data.read(folder).spec)
    assert "experiments.lcd.calvin" in reason and "mujoco" not in reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--folder is missing"),
        (["--folder=x"], "--method to train one, or --run"),
        (["--folder=x", "--method=gcbc"], "no x/training/ep_start_end_ids.npy"),
        (["--folder=x", "--method=gcb"], "gcb"),
        (["--folder=x", "--run=runs/gcbc"], "github.com/mees/calvin_env"),
    ],
)
def test_bad_input_is_explained(experiment, arguments, message):
    if "--run=runs/gcbc" in arguments and simulator.is_available() is None:
        pytest.skip("CALVIN's simulator is installed")
    done = experiment("lcd.calvin", *arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert message in done.stderr
