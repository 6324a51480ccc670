"""The scene benchmark's trials, and its ceiling and floor on a few of them."""

import numpy as np
import pytest

from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, annotate
from offjax.envs import scene_instructions as language
from offjax.envs.scene import Simulator, decode, get
from offjax.errors import UserError
from offjax.evaluation import scene
from offjax.evaluation.instructions import Outcome, Trial

pytest.importorskip("ogbench")


@pytest.fixture(scope="module")
def given():
    return scene.trials("scene", singles=11, num_chains=2)


def test_trials_are_stratified_and_feasible(given):
    known = language.instructions("scene")
    assert sorted(t.names[0] for t in given.singles) == sorted(known)
    simulator = Simulator("scene")
    for trial in (*given.singles, *given.chains):
        state = decode(simulator.scene, simulator.reset(0, trial.start))
        assert language.feasible(simulator.scene, known[trial.names[0]], state)
        for name, sentence in zip(trial.names, trial.sentences, strict=True):
            assert sentence in known[name].wordings
    assert [len(t.names) for t in given.chains] == [5, 5]


def test_trials_of_other_kinds(given):
    again = scene.trials("scene", singles=11, num_chains=2, held_out=True)
    known = language.instructions("scene")
    for trial in again.singles:
        assert trial.sentences[0] in known[trial.names[0]].held_out
    hard = scene.trials("scene", singles=10, num_chains=0, compound=True)
    assert {t.names[0] for t in hard.singles} == set(
        language.instructions("scene", compound=True)
    )
    other = scene.trials("scene", singles=11, num_chains=0, eval_seed=1)
    assert [t.start for t in other.singles] != [t.start for t in given.singles]


def test_oracle_and_random(given):
    few = scene.Trials(given.singles[:2], [])
    ceiling = scene.reference("scene", few, oracle=True)
    assert ceiling.success[0] == 1.0
    assert np.isnan(ceiling.cube_success[0]) and np.isnan(ceiling.chain_average[0])
    assert list(ceiling.per_instruction.values()) == [(1, 1), (1, 1)]


@pytest.mark.long
@pytest.mark.parametrize("name", ["scene", "cube-triple"])
def test_ceiling_and_floor(name):
    given = scene.trials(name, singles=24, num_chains=10)
    ceiling = scene.reference(name, given, oracle=True)
    assert ceiling.success[0] >= 0.9 and ceiling.chain_average[0] >= 3.5
    floor = scene.reference(name, given, oracle=False)
    assert floor.success[0] <= 0.2 and floor.chain_average[0] <= 0.5
    assert set(floor.singles.steps[floor.singles.solved == 0]) == {150}


def test_scores_by_hand():
    names = ["open_drawer", "move_cube_left", "put_cube_in_drawer", "lock_window"]
    singles = [Trial(0, (name,), ("",)) for name in names]
    chained = [Trial(0, tuple(names), ("",) * 4)] * 2
    found = scene.scores(
        "scene",
        scene.Trials(singles, chained),
        Outcome(np.array([[1, 0, 1, 1]]), np.zeros((1, 4))),
        Outcome(np.array([[2, 4]]), np.zeros((1, 2))),
    )
    assert found.success[0] == 0.75 and found.cube_success[0] == 0.5
    np.testing.assert_allclose(found.chain_rates[0], [1, 1, 0.5, 0.5, 0])
    (result,) = found.results()
    assert result[:4] == (3.0, 1.0, 75.0, 4)
    assert result.score_columns() == (4, "3", "1", "75")
    assert [value for value, _ in result.episodes] == [1, 0, 1, 1, 2, 4]
    assert result.episode_columns()[5] == (5, "4", 0)
    metrics = result.metrics
    assert metrics["evaluation/chain_3"] == 0.5
    assert metrics["evaluation/chain_average"] == 3


def recording(snapshots):
    rows = 12
    observations = np.arange(rows * 40, dtype=np.float32).reshape(rows, 40)
    zeros = np.zeros(rows)
    timeouts = np.arange(rows) == rows - 1
    dataset = Dataset.from_arrays(
        observations, np.zeros((rows, 5)), zeros, np.zeros(rows, bool), timeouts
    )
    spans = np.array([[0, 4], [4, 7], [7, 12], [0, 7]])
    names = ("open_drawer", "close_drawer", "open_drawer+close_drawer")
    which = np.array([0, 1, 0, 2])
    states = {
        "qpos": np.arange(4.0)[:, None],
        "qvel": np.zeros((4, 1)),
        "button_states": np.zeros((4, 2), int),
    }
    return annotate(
        dataset,
        Annotations(
            *spans.T, which, which, names, ("a", "b", "c"), states if snapshots else {}
        ),
    )


def test_replayed_trials_have_true_subgoals():
    dataset = recording(snapshots=True)
    trials = scene.replayed(dataset, 3)
    assert [t.names[0] for t in trials] == [
        "open_drawer",
        "close_drawer",
        "open_drawer",
    ]
    by_start = {float(t.start.qpos[0]): t for t in trials}
    goals = by_start[1.0].goals[0]["goals"]
    expected = dataset.observations[[4, 5, 6, 6, 6]]  # as long as the longest span
    np.testing.assert_array_equal(goals, expected)
    assert by_start[1.0].sentences == ("b",)
    with pytest.raises(UserError, match="no simulator states"):
        scene.replayed(recording(snapshots=False), 3)
    assert get("scene").furniture
