"""Datasets in files: written in pieces, mapped, checked; and the rows of streams."""

import numpy as np
import pytest

import offjax
from offjax.catalog import load
from offjax.datasets import convert, stored, streams
from offjax.datasets.dataset import Dataset
from offjax.datasets.views import TransitionView
from offjax.errors import UserError
from offjax.types import EnvSpec

SPEC = EnvSpec("Hopper-v5", 3, (-1.0, -2.0), (1.0, 2.0), 20)
ARRAYS = ("observations", "actions", "rewards", "terminals", "next_observations")


def recorded(rows=300, seed=0, following=True, spec=SPEC):
    """Random rows, some of which end their episode in either way."""
    rng = np.random.default_rng(seed)
    return Dataset.from_arrays(
        rng.normal(2.0, 3.0, (rows, 3)),
        rng.uniform(-1, 1, (rows, 2)),
        rng.normal(size=rows),
        rng.random(rows) < 0.03,
        rng.random(rows) < 0.05,
        rng.normal(size=(rows, 3)) if following else None,
        spec=spec,
    )


@pytest.mark.parametrize("following", [True, False])
def test_a_stored_dataset_is_the_one_that_was_written(tmp_path, following):
    dataset = recorded(following=following)
    written = stored.write("mine/robot-v0", [dataset], tmp_path)
    found = offjax.load_dataset("mine/robot-v0", tmp_path)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(dataset, name))
    np.testing.assert_array_equal(found.episode_ends, dataset.episode_ends)
    assert found.spec == SPEC == load.known_spec("mine/robot-v0", tmp_path)
    assert found.card.identity == written.card.identity == dataset.card.identity
    assert "mine/robot-v0" in load.list_datasets(tmp_path)
    assert load.lies_here("mine/robot-v0", tmp_path)


def test_pieces_make_one_dataset_each_with_its_episodes(tmp_path):
    pieces = [recorded(rows, seed) for seed, rows in enumerate((50, 80, 7))]
    found = stored.write("mine/robot-v0", iter(pieces), tmp_path)
    for name in ARRAYS:
        whole = np.concatenate([getattr(piece, name) for piece in pieces])
        np.testing.assert_array_equal(getattr(found, name), whole)
    assert {50, 130, 137} <= set(found.episode_ends)
    returns = np.concatenate([piece.episode_returns for piece in pieces])
    card = found.card
    assert (card.rows, card.episodes) == (137, len(returns))
    assert (card.return_min, card.return_max) == (returns.min(), returns.max())
    assert card.return_mean == pytest.approx(returns.mean())
    assert card.timeouts == np.sum(found.timeouts)


def test_a_changed_or_truncated_file_is_refused(tmp_path):
    dataset = stored.write("mine/robot-v0", [recorded()], tmp_path)
    file = tmp_path / "mine" / "robot-v0" / "rows.npy"
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"rows\.npy has changed since"):
        dataset.verify()
    with pytest.raises(UserError, match=r"rows\.npy has changed since"):
        offjax.train("bc", dataset, 1, stream=True, runs_dir=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
    file.write_bytes(content[:-4])
    with pytest.raises(UserError, match=r"rows\.npy has [\d,]+ bytes"):
        stored.read("mine/robot-v0", tmp_path)
    file.unlink()
    with pytest.raises(UserError, match="store the dataset again"):
        stored.read("mine/robot-v0", tmp_path)


@pytest.mark.parametrize(
    ("name", "pieces", "message"),
    [
        ("offjax/mine-v0", [recorded()], "another id"),
        ("hopper-medium-v2", [recorded()], "another id"),
        ("mine/robot", [recorded()], "end in a version"),
        ("mine/robot-v0", [], "nothing to store"),
        ("mine/robot-v0", [recorded(), recorded(following=False)], "next observations"),
        ("mine/robot-v0", [recorded(), recorded(spec=None)], "environment"),
    ],
)
def test_what_cannot_be_stored_leaves_nothing_behind(tmp_path, name, pieces, message):
    with pytest.raises(UserError, match=message):
        stored.write(name, pieces, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_id_is_taken_once_and_has_no_infos(tmp_path):
    stored.write("mine/robot-v0", [recorded()], tmp_path)
    with pytest.raises(UserError, match="is there already"):
        stored.write("mine/robot-v0", [recorded()], tmp_path)
    with pytest.raises(UserError, match="keeps no infos"):
        offjax.load_dataset("mine/robot-v0", tmp_path, infos=("qpos",))


def test_synthetic_rows_are_of_the_environment(tmp_path):
    dataset = stored.write("mine/noise-v0", stored.synthetic(SPEC, 70), tmp_path)
    assert dataset.card.rows == 70
    np.testing.assert_array_equal(dataset.episode_lengths, [20, 20, 20, 10])
    within = dataset.next_observations[:19], dataset.observations[1:20]
    np.testing.assert_array_equal(*within)
    assert np.all(np.abs(dataset.actions) <= SPEC.action_high)
    assert np.abs(dataset.actions[:, 1]).max() > 1.5
    (other,) = stored.synthetic(SPEC, 70, seed=1)
    assert not np.array_equal(other.rewards, dataset.rewards)


VIEWS = [
    TransitionView(),
    TransitionView(unit_returns=True, reward_shift=-1.0),
    TransitionView(normalize=False, reward_scale=0.1, next_actions=True),
]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("following", [True, False])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_stream_has_the_rows_and_statistics_of_its_view(
    tmp_path, view, following, where
):
    dataset = recorded(following=following, spec=None)
    whole = view.arrays(dataset, None, {})
    if where == "disk":
        dataset = stored.write("mine/robot-v0", [dataset], tmp_path)
    stream = streams.stream(view, dataset)
    assert stream.count == len(whole.rows.rewards)
    out = np.empty((stream.count, stream.width), np.float32)
    stream.gather(np.arange(stream.count, dtype=np.int32), out)
    for expected, found in zip(
        (*whole.rows, *whole.statistics),
        (*stream.unpack(out), *stream.data.statistics),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_a_stream_clips_the_actions_as_budget_allocation_does(budget_dataset):
    view = TransitionView()
    whole = view.arrays(budget_dataset, None, {})
    stream = streams.stream(view, budget_dataset)
    out = np.empty((stream.count, stream.width), np.float32)
    stream.gather(np.arange(stream.count), out)
    assert whole.rows.actions.max() < budget_dataset.actions.max()
    for expected, found in zip(whole.rows, stream.unpack(out), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("width", [1, 2, 3, 11])
@pytest.mark.parametrize("rows", [1, 100, 2 * convert.BLOCK + 5])
def test_deviations_are_those_of_numpy_in_one_piece(rows, width):
    rng = np.random.default_rng(rows)
    values = rng.normal(3.0, 5.0, (rows, width)).astype(np.float32)
    dataset = Dataset.from_arrays(
        values, values[:, :1], values[:, 0], np.zeros(rows), np.arange(rows) == rows - 1
    )
    expected = np.asarray(values.std(axis=0, dtype=np.float64) + 1e-3, np.float32)
    found = convert.statistics(dataset).observation_std
    np.testing.assert_array_equal(found, expected)
