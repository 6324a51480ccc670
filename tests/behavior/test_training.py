"""Trainings of behavior policies: sessions, choice of snapshots, running again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from offjax.behavior import locomotion, packaging, policies, rerun, sac, training
from offjax.errors import UserError

pytest.importorskip("mujoco.batch")

PLAN = training.Plan(
    robot="hopper",
    num_steps=320,
    num_envs=8,
    update_ratio=0.25,
    warmup=160,
    capacity=400,
    num_snapshots=6,
    eval_episodes=2,
    algorithm=sac.Config(hidden_dims=(8, 8), batch_size=8, bfloat16=True),
)
LONGER = dataclasses.replace(PLAN, num_steps=640)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training that is stopped and later planned longer; and what it said."""
    folder, lines = tmp_path_factory.mktemp("training"), []
    first = training.Training(PLAN, folder, lines.append)
    assert not first.run(lambda: first.steps >= 240)
    assert first.steps == 240
    assert training.Training(LONGER, folder, lines.append).run()
    return folder, lines


@pytest.fixture(scope="module")
def packaged(trained, tmp_path_factory):
    target = tmp_path_factory.mktemp("package")
    folder, _ = trained
    packaging.package(LONGER, folder, target, "python -m train", episodes=2)
    return target


def test_a_training_goes_on_where_it_was_stopped(trained):
    folder, lines = trained
    assert any("goes on from step 240" in line for line in lines)
    rows = training.read_table(folder / training.SNAPSHOTS)
    steps = [int(row["env_steps"]) for row in rows]
    assert steps == sorted(set(steps)) and steps[0] == 0 and steps[-1] == 640
    # Two updates after each of the 60 steps that follow the warm-up's.
    assert int(rows[-1]["updates"]) == 2 * (640 - 160) // 8
    with pytest.raises(UserError, match="was begun as"):
        other = dataclasses.replace(PLAN, robot="walker2d")
        training.Training(other, folder, lines.append).run()


def test_rates_follow_the_length_of_each_session():
    assert PLAN.config().num_updates == 2 * 160 // 8
    assert LONGER.config().num_updates == 2 * 480 // 8
    odd = dataclasses.replace(PLAN, update_ratio=0.4)
    assert odd.updates_per_call == 4  # 3.2, but by twos


def test_run_again_it_goes_through_the_same_rows_to_the_same_policies(trained):
    folder, _ = trained
    history = rerun.history(LONGER, folder)
    assert history.sessions == ((0, 320), (240, 640)) and history.num_steps == 640
    with np.load(folder / training.CHECKPOINT) as file:
        kept = {name: file[name] for name in file.files}
    episodes, actor = rerun.rows(history, 640, lambda _: None)
    snapshot = policies.load(folder / "snapshots" / "000000640.npz")["000000640"]
    assert policies.equal(policies.rounded(actor), snapshot)

    def sorted_rows(columns):
        flat = [np.asarray(c, np.float32).reshape(len(c), -1) for c in columns]
        rows = np.concatenate(flat, axis=1)
        return rows[np.lexsort(rows.T)]

    names = [f.removeprefix("replay_") for f in kept if f.startswith("replay_")]
    names.remove("added")
    # The buffer holds the last 400 of 640 rows; a run of 240 steps gives the others.
    early, other = rerun.rows(history, 240, lambda _: None)
    assert not policies.equal(policies.rounded(other), snapshot)
    all_rows, early_rows = (
        {name: np.concatenate([e[name] for e in found]) for name in names}
        for found in (episodes, early)
    )
    expected = [
        np.concatenate([kept[f"replay_{name}"], early_rows[name]]) for name in names
    ]
    np.testing.assert_array_equal(
        sorted_rows([all_rows[name] for name in names]), sorted_rows(expected)
    )


def test_episodes_of_a_run_again_are_whole(trained):
    folder, _ = trained
    episodes, _ = rerun.rows(rerun.history(LONGER, folder), 640, lambda _: None)
    assert sum(len(e["rewards"]) for e in episodes) == 640
    assert sum(e["terminals"][-1] for e in episodes) > 5
    for episode in episodes:
        ends = episode["terminals"] | episode["timeouts"]
        assert ends[-1] and not ends[:-1].any()
        np.testing.assert_array_equal(
            episode["observations"][1:], episode["next_observations"][:-1]
        )
        np.testing.assert_array_equal(
            episode["infos/qpos"][:, 1:].astype(np.float32),
            episode["observations"][:, :5],
        )


def test_replays_of_a_package(packaged):
    (medium,) = policies.rows_of("hopper", "medium", packaged)
    (expert,) = policies.rows_of("hopper", "expert", packaged)
    assert expert["command"] == "python -m train"
    total = int(medium["env_steps"])
    lines = []
    rows, remark = locomotion.replay(
        "hopper", "medium-replay", progress=lines.append, folder=packaged
    )
    assert len(rows["rewards"]) == total and "bit for bit" in remark
    full, _ = locomotion.replay("hopper", "full-replay", folder=packaged)
    assert len(full["rewards"]) == 640
    fewer, _ = locomotion.replay("hopper", "full-replay", 200, folder=packaged)
    assert len(fewer["rewards"]) == 200
    ends = fewer["terminals"] | fewer["timeouts"]
    assert ends[-1] and ends.sum() > 3
    # Its episodes are of the whole training, not of its beginning alone.
    last = full["observations"][-160:]
    assert (fewer["observations"][:, None] == last[None]).all(-1).any()
    with pytest.raises(UserError, match="has 640"):
        locomotion.replay("hopper", "full-replay", 641, folder=packaged)
    with pytest.raises(UserError, match="the history of a training"):
        (packaged / "hopper.json").rename(packaged / "away.json")
        try:
            locomotion.replay("hopper", "full-replay", folder=packaged)
        finally:
            (packaged / "away.json").rename(packaged / "hopper.json")


def test_candidates_for_the_roles():
    steps = np.arange(12) * 10
    scores = np.array([0, 5, 20, 38, 45, 41, 55, 43, 90, 70, 95, 60], float)
    roles = packaging.candidates(steps, scores, 42.0)
    # Those after the first that reached 50 do not count, however near to 42.
    assert roles["medium"] == [5, 4, 3, 6, 2]
    assert roles["expert"] == [10, 8, 9, 11, 6]
    scores[2] = 99.0  # better, but early: no expert
    assert packaging.best(steps, scores) == 10
    assert 2 not in packaging.candidates(steps, scores, None)["expert"]
    assert "medium" not in packaging.candidates(steps, scores, None)


def test_a_training_without_snapshots_is_not_packaged(tmp_path):
    training.write_table(tmp_path / training.SNAPSHOTS, [{"snapshot": "0"}])
    with pytest.raises(UserError, match="1 snapshots"):
        packaging.package(PLAN, tmp_path, tmp_path, "")
