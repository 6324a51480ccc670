"""Datasets, their checks and cards, against episodes counted by hand."""

import dataclasses

import numpy as np
import pytest

from offjax.datasets import Dataset
from offjax.datasets.dataset import horizon_timeouts
from offjax.errors import UserError
from offjax.types import EnvSpec

SPEC = EnvSpec("test/Env-v0", 2, (-1.0,), (1.0,), horizon=3)


def arrays(rows=6, **changes):
    """Two-dimensional observations; episodes of rows 0-1 (terminal) and 2-4 (cut)."""
    values = {
        "observations": np.arange(2 * rows, dtype=np.float64).reshape(rows, 2),
        "actions": np.linspace(-1, 1, rows)[:, None],
        "rewards": np.arange(rows, dtype=np.float64),
        "terminals": np.arange(rows) == 1,
        "timeouts": np.arange(rows) == 4,
    }
    return values | changes


def test_episodes_end_at_terminals_timeouts_and_the_last_row():
    dataset = Dataset.from_arrays(**arrays())
    np.testing.assert_array_equal(dataset.episode_starts, [0, 2, 5])
    np.testing.assert_array_equal(dataset.episode_ends, [2, 5, 6])
    np.testing.assert_array_equal(dataset.episode_lengths, [2, 3, 1])
    np.testing.assert_array_equal(dataset.episode_returns, [1.0, 9.0, 5.0])
    assert len(dataset) == 6
    assert not dataset.timeouts[-1]  # bounds leave the recorded flags alone
    assert dataset.observations.dtype == dataset.rewards.dtype == np.float32


def test_card_counts():
    card = Dataset.from_arrays(**arrays(), id="mine").card
    assert (card.rows, card.episodes, card.terminals, card.timeouts) == (6, 3, 1, 1)
    assert (card.return_min, card.return_mean, card.return_max) == (1.0, 5.0, 9.0)
    assert (card.reward_min, card.reward_max) == (0.0, 5.0)
    assert (card.length_min, card.length_max) == (1, 3)
    text = str(card)
    assert "mine" in text and "6 in 3 episodes of 1 to 3 steps" in text
    assert "min 1, mean 5, max 9" in text


def test_identity_follows_content():
    one = Dataset.from_arrays(**arrays()).card
    same = Dataset.from_arrays(**arrays(), id="other name").card
    other = Dataset.from_arrays(**arrays(rewards=np.ones(6))).card
    assert one.identity == one.checksum == same.identity
    assert one.identity != other.identity
    moved = Dataset.from_arrays(
        **arrays(terminals=np.zeros(6), timeouts=np.arange(6) == 1)
    )
    assert one.identity != moved.card.identity


def test_columns_and_numbers_are_taken_as_flags():
    for terminals in (
        arrays()["terminals"][:, None],
        arrays()["terminals"].astype(np.float32),
        arrays()["terminals"].astype(np.int64)[:, None],
    ):
        dataset = Dataset.from_arrays(**arrays(terminals=terminals))
        assert dataset.terminals.dtype == bool
        np.testing.assert_array_equal(dataset.terminals, arrays()["terminals"])
    column = Dataset.from_arrays(**arrays(rewards=np.arange(6.0)[:, None]))
    assert column.rewards.shape == (6,)


def test_horizon_cuts_where_timeouts_are_missing():
    terminals = np.zeros(12, bool)
    terminals[4] = True  # a cut after row 2, the end at row 4, cuts after 7 and 10
    np.testing.assert_array_equal(
        np.flatnonzero(horizon_timeouts(terminals, 3)), [2, 7, 10]
    )
    dataset = Dataset.from_arrays(**arrays(timeouts=None), spec=SPEC)
    np.testing.assert_array_equal(dataset.episode_ends, [2, 5, 6])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observations": np.zeros((0, 2))}, "no rows"),
        ({"observations": np.zeros(6)}, "[rows, dimensions]"),
        ({"observations": np.zeros((6, 4, 4))}, "(6, 4, 4)"),
        ({"observations": [[1.0, 2.0], [3.0]]}, "same length"),
        ({"observations": np.full((6, 2), "x")}, "observations"),
        ({"actions": np.zeros((5, 1))}, "5 rows and `observations` 6"),
        ({"rewards": np.zeros(7)}, "`rewards` has 7 rows"),
        ({"rewards": np.zeros((6, 2))}, "one value a row"),
        ({"rewards": np.array([0, 0, 0, np.nan, 0, np.inf])}, "first row 3"),
        ({"rewards": np.array([0, 1e39, 0, 0, 0, 0])}, "float32"),
        ({"observations": np.where(np.arange(12) == 7, np.nan, 0).reshape(6, 2)}, "3"),
        ({"terminals": np.zeros(3, bool)}, "`terminals` has 3 rows"),
        ({"terminals": np.array([0, 0, 0.5, 0, 0, 1])}, "row 2 is"),
        ({"terminals": np.full(6, "no")}, "row 0 is"),
        ({"timeouts": np.zeros(8, bool)}, "`timeouts` has 8 rows"),
        ({"timeouts": np.array([0, 0, 0, np.nan, 0, 0])}, "row 3 is"),
        ({"next_observations": np.zeros((6, 3))}, "3 numbers a row"),
        ({"next_observations": np.zeros((5, 2))}, "5 rows"),
        ({"terminals": np.zeros(6), "timeouts": None}, "no episode"),
    ],
)
def test_bad_arrays_are_named(changes, words):
    with pytest.raises(UserError) as error:
        Dataset.from_arrays(**arrays(**changes))
    assert words in str(error.value)
    assert next(iter(changes)) in str(error.value)


GOAL = {
    "observation": np.arange(12.0).reshape(6, 2),
    "achieved_goal": np.full((6, 1), -1.0),
    "desired_goal": np.full((6, 1), -2.0),
}


def test_goal_observations_are_put_side_by_side():
    dataset = Dataset.from_arrays(**arrays(observations=GOAL, next_observations=GOAL))
    np.testing.assert_array_equal(dataset.observations[2], [-1, -2, 4, 5])
    np.testing.assert_array_equal(dataset.next_observations[2], [-1, -2, 4, 5])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"image": np.zeros((6, 2))}, "keys image, whose layout is unknown"),
        (GOAL | {"desired_goal": np.zeros((5, 1))}, "desired_goal 5"),
        (GOAL | {"desired_goal": {"kettle": 1}}, "observations/desired_goal"),
    ],
)
def test_dicts_of_unknown_layout(value, words):
    with pytest.raises(UserError, match=words):
        Dataset.from_arrays(**arrays(observations=value))


def test_infos_are_kept_and_must_fit():
    dataset = Dataset.from_arrays(**arrays(), infos={"qpos": np.zeros((6, 3))})
    assert dataset.infos["qpos"].shape == (6, 3)
    with pytest.raises(UserError, match="`infos/qpos` has 5 rows"):
        Dataset.from_arrays(**arrays(), infos={"qpos": np.zeros((5, 3))})


def test_actions_outside_the_bounds_are_counted():
    actions = np.zeros((6, 1))
    actions[[2, 5], 0] = -1.01, 1.25
    with pytest.raises(UserError, match=r"2 of 6 rows.*first row 2, by up to 0\.25"):
        Dataset.from_arrays(**arrays(actions=actions), spec=SPEC)


def test_rounding_beyond_the_bounds_is_clipped():
    actions = np.zeros((6, 1))
    actions[3, 0] = 1.00005
    dataset = Dataset.from_arrays(**arrays(actions=actions), spec=SPEC)
    assert dataset.actions.max() == 1.0


@pytest.mark.parametrize(
    ("low", "high"), [((1.0,), (-1.0,)), ((-np.inf,), (1.0,)), ((0.0,), (0.0,))]
)
def test_bad_action_bounds(low, high):
    spec = dataclasses.replace(SPEC, action_low=low, action_high=high)
    with pytest.raises(UserError, match="action bounds"):
        Dataset.from_arrays(**arrays(), spec=spec)


def test_widths_must_fit_the_environment():
    with pytest.raises(UserError, match="`observations` holds 2 numbers"):
        Dataset.from_arrays(
            **arrays(), spec=dataclasses.replace(SPEC, observation_dim=3)
        )
    wide = dataclasses.replace(SPEC, action_low=(-1.0, -1.0), action_high=(1.0, 1.0))
    with pytest.raises(UserError, match="`actions` holds 1 numbers"):
        Dataset.from_arrays(**arrays(), spec=wide)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, bool])
def test_discrete_actions_are_refused(kind):
    actions = np.array([0, 1, 1, 0, 1, 0], kind)[:, None]
    with pytest.raises(UserError, match=r"`actions` are of type .* discrete.*astype"):
        Dataset.from_arrays(**arrays(actions=actions))
    Dataset.from_arrays(**arrays(actions=actions.astype(np.float32)))
