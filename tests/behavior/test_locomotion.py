"""Locomotion data: rows, ends, parts, and the packaged policies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from offjax.behavior import locomotion, packaging, policies
from offjax.catalog import collected
from offjax.datasets import minari_io
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
    assert policies.folder(0).joinpath(f"{robot}.npz").stat().st_size < 2.5e6
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


def test_packaged_policies_of_version_1():
    for robot in policies.packaged(1):
        check_package(robot)


def check_package(robot):
    spec = mujoco.spec(robot)
    assert policies.folder(1).joinpath(f"{robot}.npz").stat().st_size < 1e6
    for role in ("expert", "medium"):
        (actor,) = policies.for_role(robot, role, version=1)
        mean, _ = actor.gaussian(np.zeros((2, spec.observation_dim)))
        assert mean.shape == (2, spec.action_dim)
    by_role = {row["roles"]: float(row["score"]) for row in policies.table(robot, 1)}
    goal = packaging.MEDIUM_SCORES[robot]
    assert abs(by_role["medium"] - goal) <= packaging.MARGIN
    assert by_role["expert"] > by_role["medium"]
    steps = [locomotion.replay_steps(robot, kind) for kind in locomotion.REPLAYS]
    assert 0 < steps[0] < steps[1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("robot", "version"),
    [
        (robot, version)
        for version in (0, 1)
        for robot in policies.packaged(version)
        if robot in locomotion.ROBOTS_V1
    ],
)
def test_packaged_policies_score_what_their_table_says(robot, version):
    spec = mujoco.spec(robot)
    for row in policies.table(robot, version):
        if row["roles"] == "expert":
            env = make_batched(spec, 20)
            (actor,) = policies.for_role(robot, "expert", version)
            returns = policies.evaluate(
                actor, env, spec.horizon, packaging.REPORT_SEED + 1000
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
    entry = collected.parse("offjax/hopper/random-v0")
    made_from = collected.specification(entry, 300, 0)
    dataset = collected.generate(entry, 300)
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
    made_from = collected.specification(
        collected.parse("offjax/hopper/medium-v0"), None, 0
    )
    assert made_from["policies"] == policies.digest("hopper")
    assert made_from["num_transitions"] == 200_000
    random = collected.specification(
        collected.parse("offjax/hopper/random-v0"), None, 0
    )
    assert "policies" not in random


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ant", "random"), "ant"),
        (("hopper", "mixed"), "mixed"),
        (("hopper", "full-replay", 9, 0, None, 1), "full-replay"),
        (("hopper", "random", 0), "0 steps"),
    ],
)
def test_bad_arguments_are_explained(arguments, words):
    with pytest.raises(UserError, match=words):
        locomotion.generate(*arguments)


def test_chunks_that_were_finished_are_kept(tmp_path):
    """A collection that finds some chunks goes on from them, to the same rows."""

    def collect(scratch=None):
        return locomotion.generate(
            "hopper", "random", 700, version=1, scratch=scratch, chunk=200
        )

    whole = collect(tmp_path)
    files = sorted((tmp_path / "0").iterdir())
    assert len(files) >= 3
    files[-1].unlink()
    files[1].write_bytes(b"damaged")
    with np.load(files[0]) as file:
        first = dict(file)
    first["rewards"][:] = 7.0  # to tell it from one that is collected again
    np.savez(files[0], **first)
    again = collect(tmp_path)
    count = len(first["rewards"])
    assert 200 <= count < 700 and (again["rewards"][:count] == 7.0).all()
    np.testing.assert_array_equal(again["rewards"][count:], whole["rewards"][count:])
    for key in whole:
        if key != "rewards":
            np.testing.assert_array_equal(again[key], whole[key])
    np.testing.assert_array_equal(collect()["observations"], whole["observations"])


def test_progress_is_a_bar_with_rate_and_eta():
    lines = []
    report = locomotion.reporter(1000, lines.append, seconds=0.0)
    report(400)  # done by an earlier process: no part of the rate
    report(600)
    report(1000)
    assert len(lines) == 1
    assert lines[0].startswith("[############........]  60 %  600/1,000 transitions")
    assert "/s  ETA 00:" in lines[0]


def _write_policies(folder, observation_dim, action_dim):
    rng = np.random.default_rng(0)
    sizes = (observation_dim, 4, 2 * action_dim)
    actor = policies.Actor(
        tuple(rng.normal(size=s) for s in itertools.pairwise(sizes)),
        tuple(rng.normal(size=n) for n in sizes[1:]),
    )
    policies.save(folder / "hopper.npz", {"a": actor})
    table = "robot,snapshot,roles,env_steps\nhopper,a,expert,64\n"
    (folder / "hopper.csv").write_text(table)


def test_a_foreign_policy_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(policies, "FOLDER", tmp_path)
    _write_policies(tmp_path, 11, 3)
    (actor,) = policies.for_role("hopper", "expert")
    assert actor.action_dim == 3
    _write_policies(tmp_path, 17, 6)
    with pytest.raises(UserError, match="policy of 17 observations"):
        policies.for_role("hopper", "expert")
    policies.save(tmp_path / "hopper.npz", {"b": actor})
    with pytest.raises(UserError, match="lacks the policies a"):
        policies.for_role("hopper", "expert")
    wide = policies.Actor(actor.weights, (actor.biases[0], np.zeros(7)))
    policies.save(tmp_path / "hopper.npz", {"a": wide})
    with pytest.raises(UserError, match="do not fit"):
        policies.for_role("hopper", "expert")
    for foreign in ({"a/w0": np.ones((2, 2))}, {"x": np.ones(3)}):
        np.savez(tmp_path / "hopper.npz", **foreign)
        with pytest.raises(UserError, match="a file of policies"):
            policies.for_role("hopper", "expert")
    (tmp_path / "hopper.npz").write_text("no npz")
    with pytest.raises(UserError, match="a file of policies"):
        policies.for_role("hopper", "expert")
