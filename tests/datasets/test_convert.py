"""Conversions against plain loops over rows, written out here."""

import numpy as np
import pytest

from offjax.datasets import Dataset
from offjax.datasets.convert import (
    returns_to_go,
    statistics,
    to_transitions,
    top_fraction,
)
from offjax.errors import UserError
from offjax.types import EnvSpec


def recording(seed, rows=200, recorded_next=True, ends=0.1):
    """Random episodes; next observations differ from row i + 1 where one ends."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, size=rows, p=[1 - ends, ends / 2, ends / 2])
    observations = rng.normal(size=(rows, 3)).astype(np.float32)
    following = np.roll(observations, -1, axis=0)
    cut = (kind > 0) | (np.arange(rows) == rows - 1)
    following[cut] = rng.normal(size=(cut.sum(), 3))
    return Dataset.from_arrays(
        observations,
        rng.uniform(-1, 1, (rows, 2)),
        rng.normal(size=rows),
        kind == 1,
        kind == 2,
        following if recorded_next else None,
    )


def d4rl_rows(dataset):
    """D4RL's `qlearning_dataset`: the rows it keeps, one after another."""
    kept = []
    for i in range(len(dataset.rewards) - 1):
        if dataset.timeouts[i]:
            continue
        kept.append(
            (
                dataset.observations[i],
                dataset.actions[i],
                dataset.rewards[i],
                dataset.observations[i + 1],
                bool(dataset.terminals[i]),
                dataset.actions[i + 1],
            )
        )
    return [np.asarray(column) for column in zip(*kept, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_transitions_without_next_observations_are_d4rls(seed):
    dataset = recording(seed, recorded_next=False)
    expected = d4rl_rows(dataset)
    found = to_transitions(dataset)
    columns = (
        found.observations,
        found.actions,
        found.rewards,
        found.next_observations,
        found.terminals,
    )
    for column, values in zip(columns, expected[:5], strict=True):
        assert column.dtype == np.float32
        np.testing.assert_array_equal(column, values)
    has = found.has_next_action
    # Every kept row but a terminal one is followed by a row of the same episode.
    np.testing.assert_array_equal(has, ~expected[4])
    np.testing.assert_array_equal(found.next_actions[has], expected[5][has])


@pytest.mark.parametrize("seed", range(5))
def test_transitions_with_next_observations_keep_every_row(seed):
    dataset = recording(seed)
    found = to_transitions(dataset)
    assert len(found.rewards) == len(dataset)
    np.testing.assert_array_equal(found.next_observations, dataset.next_observations)
    for i in range(len(dataset)):
        ended = dataset.terminals[i] or dataset.timeouts[i] or i == len(dataset) - 1
        assert found.has_next_action[i] == (not ended)
        assert found.terminals[i] == float(dataset.terminals[i])
        expected = dataset.actions[i if ended else i + 1]
        np.testing.assert_array_equal(found.next_actions[i], expected)


def test_row_before_a_timeout_never_sees_the_next_episode():
    """Rows 0, 1, 2 (cut) and 3, 4: row 1's next action is row 2's, row 2 is gone."""
    dataset = Dataset.from_arrays(
        np.arange(5.0)[:, None],
        np.arange(5.0)[:, None] * 10,
        np.zeros(5),
        np.zeros(5, bool),
        np.arange(5) == 2,
    )
    found = to_transitions(dataset)
    np.testing.assert_array_equal(found.observations[:, 0], [0, 1, 3])
    np.testing.assert_array_equal(found.next_observations[:, 0], [1, 2, 4])
    np.testing.assert_array_equal(found.next_actions[:, 0], [10, 20, 40])
    assert found.has_next_action.all()


def test_no_transition_is_an_error():
    with pytest.raises(UserError, match="no transition"):
        to_transitions(
            Dataset.from_arrays([[0.0]], [[0.0]], [0.0], [False], timeouts=[True])
        )


@pytest.mark.parametrize("discount", [1.0, 0.99, 0.3, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_returns_to_go_equal_a_backward_loop(seed, discount):
    dataset = recording(seed)
    starts, ends = dataset.episode_starts, dataset.episode_ends
    expected = np.zeros(len(dataset))
    for start, end in zip(starts, ends, strict=True):
        total = 0.0
        for i in reversed(range(start, end)):
            total = float(dataset.rewards[i]) + discount * total
            expected[i] = total
    found = returns_to_go(dataset.rewards, starts, ends, discount)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float64


def test_returns_to_go_by_hand():
    found = returns_to_go(
        np.array([1.0, 2.0, 4.0, 8.0]), np.array([0, 3]), np.array([3, 4]), 0.5
    )
    np.testing.assert_array_equal(found, [3.0, 4.0, 4.0, 8.0])


def graded(returns):
    """Episodes of two rows whose returns are `returns`."""
    rewards = np.repeat(np.asarray(returns, float), 2) / 2
    rows = np.arange(len(rewards))
    return Dataset.from_arrays(
        rows[:, None],
        rows[:, None].astype(np.float32),
        rewards,
        rows % 4 == 1,
        rows % 4 == 3,
        rows[:, None] + 0.5,
    )


@pytest.mark.parametrize(
    ("fraction", "episodes"),
    [(0.2, [3]), (0.4, [1, 3]), (0.5, [0, 1, 3]), (1.0, [0, 1, 2, 3, 4]), (1e-6, [3])],
)
def test_best_episodes_ties_to_the_earlier(fraction, episodes):
    dataset = top_fraction(graded([5, 7, 1, 9, 5]), fraction)
    rows = [row for e in episodes for row in (2 * e, 2 * e + 1)]
    np.testing.assert_array_equal(dataset.observations[:, 0], rows)
    np.testing.assert_array_equal(dataset.actions[:, 0], rows)
    np.testing.assert_array_equal(dataset.next_observations[:, 0], np.add(rows, 0.5))
    np.testing.assert_array_equal(dataset.terminals, [r % 4 == 1 for r in rows])
    assert dataset.card.episodes == len(episodes)
    assert f"best {len(episodes)} of 5" in str(dataset.card)


def test_best_episodes_count_is_exact():
    dataset = graded(np.arange(100))
    for fraction in (0.07, 0.1, 0.29, 0.57):
        assert top_fraction(dataset, fraction).card.episodes == round(100 * fraction)


def test_best_episodes_have_their_own_identity():
    dataset = graded([1, 2, 3])
    identities = {top_fraction(dataset, f).card.identity for f in (0.3, 0.6)}
    assert len(identities | {dataset.card.identity}) == 3


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_best_episodes_bounds(fraction):
    with pytest.raises(UserError, match="fraction"):
        top_fraction(graded([1, 2]), fraction)


def test_statistics():
    observations = np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0], [6.0, 5.0]])
    actions = np.array([[0.1, 0.3], [0.5, 0.3], [0.2, 0.3], [0.2, 0.3]])
    ends = np.arange(4) == 3
    spec = EnvSpec("test/Env-v0", 2, (0.0, -2.0), (1.0, 2.0), horizon=4)
    dataset = Dataset.from_arrays(observations, actions, ends, ends, spec=spec)
    found = statistics(dataset, epsilon=0.5)
    np.testing.assert_allclose(found.observation_mean, [3.0, 5.0])
    np.testing.assert_allclose(found.observation_std, [np.sqrt(5) + 0.5, 0.5])
    np.testing.assert_array_equal(found.action_low, [0.0, -2.0])
    np.testing.assert_array_equal(found.action_high, [1.0, 2.0])
    box = statistics(dataset, normalize_observations=False, action_box="data")
    np.testing.assert_array_equal(box.observation_mean, [0.0, 0.0])
    np.testing.assert_array_equal(box.observation_std, [1.0, 1.0])
    np.testing.assert_allclose(box.action_low, [0.1, -0.7])
    np.testing.assert_allclose(box.action_high, [0.5, 1.3])
    assert all(leaf.dtype == np.float32 for leaf in (*found, *box))


def test_statistics_without_environment_use_the_data():
    dataset = Dataset.from_arrays([[0.0], [1.0]], [[-3.0], [2.0]], [0, 0], [0, 1])
    found = statistics(dataset)
    np.testing.assert_array_equal(found.action_low, [-3.0])
    np.testing.assert_array_equal(found.action_high, [2.0])
