"""Locomotion data: rows, ends, parts; and the choice of snapshots."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from offjax.behavior import locomotion, policies, training
from offjax.datasets import catalog, minari_io
from offjax.envs import mujoco
from offjax.envs.batched import make_batched
from offjax.errors import UserError

pytest.importorskip("mujoco.batch")


@pytest.fixture(scope="module")
def hopper():
    return locomotion.generate("hopper", "random", 600, seed=3)


def test_rows_follow_one_another_and_the_simulator(hopper):
    """Replayed from its stored states, every row gives its reward and successor."""
    ends = hopper["terminals"] | hopper["timeouts"]
    inside = ~ends[:-1]
    assert (
        inside.sum() > 400
        and ends[-1]
        and not (hopper["terminals"] & hopper["timeouts"]).any()
    )
    np.testing.assert_array_equal(
        hopper["next_observations"][:-1][inside], hopper["observations"][1:][inside]
    )
    env = make_batched(mujoco.spec("hopper"), 600)
    places = np.arange(600)
    env.reset(places, range(600))
    env._qpos[:], env._qvel[:] = hopper["infos/qpos"], hopper["infos/qvel"]
    following, rewards, terminals = env.step(places, hopper["actions"])
    # The solver's warm start is no part of qpos and qvel.
    np.testing.assert_allclose(following, hopper["next_observations"], atol=1e-5)
    np.testing.assert_allclose(rewards, hopper["rewards"], atol=1e-5)
    np.testing.assert_array_equal(terminals, hopper["terminals"])


def test_random_actions_are_uniform(hopper):
    actions = hopper["actions"]
    assert np.abs(actions).max() <= 1 and actions.dtype == np.float32
    np.testing.assert_allclose(actions.std(), 1 / np.sqrt(3), rtol=0.05)


def test_same_seed_same_data_and_a_shorter_one_is_its_beginning(hopper):
    again = locomotion.generate("hopper", "random", 150, seed=3)
    for key in ("observations", "actions", "rewards", "infos/qpos"):
        np.testing.assert_array_equal(again[key], hopper[key][:150])
    other = locomotion.generate("hopper", "random", 150, seed=4)
    assert (other["observations"] != again["observations"]).any()


def test_cheetah_times_out_at_the_thousandth_step():
    lines = []
    data = locomotion.generate("halfcheetah", "random", 2100, progress=lines.append)
    assert np.flatnonzero(data["timeouts"]).tolist() == [999, 1999, 2099]
    assert not data["terminals"].any()


@pytest.mark.parametrize("robot", locomotion.ROBOTS)
def test_packaged_policies(robot):
    spec = mujoco.spec(robot)
    table = policies.table(robot)
    assert policies.FOLDER.joinpath(f"{robot}.npz").stat().st_size < 2.5e6
    (expert,) = policies.for_role(robot, "expert")
    (medium,) = policies.for_role(robot, "medium")
    replay = policies.for_role(robot, policies.REPLAY)
    assert 8 <= len(replay) <= 20
    for actor in (expert, medium, *replay):
        mean, std = actor.gaussian(np.zeros((2, spec.observation_dim)))
        assert mean.shape == std.shape == (2, spec.action_dim)
    scores = {row["roles"]: float(row["return_mean"]) for row in table}
    ratio = scores["medium replay"] / scores["expert"]
    assert 0.15 < ratio < 0.55
    assert all(row["command"].startswith("python -m") for row in table)


@pytest.mark.long
@pytest.mark.parametrize("robot", locomotion.ROBOTS)
def test_packaged_policies_score_what_their_table_says(robot):
    spec = mujoco.spec(robot)
    for row in policies.table(robot):
        if row["roles"] == "expert":
            env = make_batched(spec, 20)
            (actor,) = policies.for_role(robot, "expert")
            returns = policies.evaluate(
                actor, env, spec.horizon, training.PACKAGE_SEED + 1000
            )
            spread = float(row["return_std"]) / np.sqrt(20) + 0.02 * abs(returns.mean())
            assert abs(returns.mean() - float(row["return_mean"])) < 4 * spread


def test_parts_of_the_mixtures():
    sizes = [part.num_steps for part in locomotion.parts("hopper", "medium-replay", 95)]
    assert sum(sizes) == 95 and max(sizes) - min(sizes) <= 1 and len(sizes) >= 8
    medium, expert = locomotion.parts("hopper", "medium-expert", 11, seed=5)
    assert (medium.num_steps, expert.num_steps) == (6, 5)
    # The halves are the beginnings of the datasets of one policy.
    assert medium.key == locomotion.parts("hopper", "medium", 11, seed=5)[0].key
    assert expert.key == locomotion.parts("hopper", "expert", 11, seed=5)[0].key
    keys = {
        part.key
        for kind in locomotion.KINDS
        for part in locomotion.parts("hopper", kind, 100)
    }
    assert len(keys) == 3 + len(sizes)


def test_stored_with_the_states_of_the_simulator(tmp_path):
    entry = catalog.parse("offjax/hopper/random-v0")
    made_from = catalog.specification(entry, 300, 0)
    dataset = catalog.generate(entry, 300)
    minari_io.write(dataset, made_from, tmp_path)
    again = minari_io.read(entry.name, tmp_path, infos=("qpos", "qvel"))
    assert again.spec == mujoco.spec("hopper")
    np.testing.assert_array_equal(again.observations, dataset.observations)
    np.testing.assert_array_equal(again.infos["qvel"], dataset.infos["qvel"])
    # Hopper observes all positions but the first, as they are.
    np.testing.assert_array_equal(
        again.infos["qpos"][:, 1:].astype(np.float32), again.observations[:, :5]
    )


def test_specification_names_the_policies():
    made_from = catalog.specification(catalog.parse("offjax/hopper/medium-v0"), None, 0)
    assert made_from["policies"] == policies.digest("hopper")
    assert made_from["num_transitions"] == 200_000
    random = catalog.specification(catalog.parse("offjax/hopper/random-v0"), None, 0)
    assert "policies" not in random


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ant", "random"), "ant"),
        (("hopper", "mixed"), "mixed"),
        (("hopper", "random", 0), "0 steps"),
    ],
)
def test_bad_arguments_are_explained(arguments, words):
    with pytest.raises(UserError, match=words):
        locomotion.generate(*arguments)


def test_choice_of_snapshots():
    steps = np.arange(20) * 10
    returns = np.array([0, 1, 2, 5, 8, 12, 20, 25, 31, 40, 55] + [60] * 9, float)
    returns[14] = 90.0
    roles = training.select(steps, returns)
    assert roles["expert"] == [14]
    assert roles["medium"] == [8]  # 31 is nearest to 30 of those up to 55
    assert roles["replay"][0] == 0 and roles["replay"][-1] == 8
    assert len(roles["replay"]) == 9
    returns[9] = 100.0  # better, but early: it may not be the expert
    assert training.select(steps * 2, returns)["expert"] == [14]
    with pytest.raises(UserError, match="num_snapshots"):
        training.select(np.arange(5), np.array([0.0, 3, 9, 9, 9]))


@pytest.mark.long
def test_a_training_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    from offjax.behavior import sac

    plan = training.Plan(
        robot="halfcheetah",
        num_steps=480,
        num_envs=8,
        update_ratio=0.125,
        warmup=160,
        capacity=400,
        num_snapshots=12,
        eval_episodes=1,
        algorithm=sac.Config(hidden_dims=(8,), batch_size=8),
    )
    monkeypatch.setattr(mujoco, "HORIZON", 20)
    assert plan.snapshot_steps()[0] == 0 and plan.snapshot_steps()[-1] == 480
    assert plan.config().num_updates == 40
    lines = []
    save = training.Training._save

    def stop(self):
        save(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Training, "_save", stop)
    monkeypatch.setattr(training.time, "monotonic", lambda: stop.clock)
    stop.clock = 0.0

    def say(line):
        lines.append(line)
        if "320" in line or " 31" in line:
            stop.clock = 1e6  # a checkpoint is due

    with pytest.raises(KeyboardInterrupt):
        training.Training(plan, tmp_path, say).run()
    monkeypatch.setattr(training.Training, "_save", save)
    longer = dataclasses.replace(plan, num_steps=560)  # it may grow on the way
    training.Training(longer, tmp_path, lines.append).run()
    assert any("goes on from step" in line for line in lines)
    rows = training._read(tmp_path / training.SNAPSHOTS)
    steps = [int(row["env_steps"]) for row in rows]
    assert steps == sorted(set(steps)) and steps[-1] == 560
    assert int(rows[-1]["updates"]) == 50
    with pytest.raises(UserError, match="was begun as"):
        other = dataclasses.replace(plan, robot="hopper")
        training.Training(other, tmp_path, lines.append).run()
