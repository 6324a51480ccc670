"""Minari datasets of others: trees that Minari's own writer made, read as flat rows."""

import dataclasses
import json
import warnings

import gymnasium
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from offjax.datasets.minari_io import read
from offjax.errors import UserError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def buffers(observation, rng, lengths=(4, 2)):
    """Episodes as Minari's own writer takes them, `observation(steps)` for each."""
    return [
        EpisodeBuffer(
            id=number,
            observations=observation(steps + 1),
            actions=rng.uniform(-1, 1, (steps, 2)),
            rewards=rng.normal(size=steps),
            terminations=np.zeros(steps, bool),
            truncations=np.arange(steps) == steps - 1,
            infos={"success": np.zeros(steps + 1, bool)},
        )
        for number, steps in enumerate(lengths)
    ]


def foreign(name, space, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            name,
            data,
            observation_space=space,
            action_space=gymnasium.spaces.Box(-1, 1, (2,), np.float64),
            **options,
        )


def box(width):
    return gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float64)


def test_foreign_box_dataset(root):
    rng = np.random.default_rng(0)
    data = buffers(lambda steps: rng.normal(size=(steps, 3)), rng)
    name = "mujoco/robot/expert-v0"
    foreign(name, box(3), data)
    metadata = root / name / "data" / "metadata.json"
    fields = json.loads(metadata.read_text())
    env = {"id": "Robot-v5", "max_episode_steps": 7, "kwargs": {"a": 1}}
    fields |= {"env_spec": json.dumps(env), "ref_min_score": -1.0, "ref_max_score": 3.0}
    metadata.write_text(json.dumps(fields))
    found = read(name)
    whole = [buffer.observations for buffer in data]
    np.testing.assert_array_equal(
        found.observations, np.concatenate([o[:-1] for o in whole]).astype(np.float32)
    )
    np.testing.assert_array_equal(
        found.next_observations,
        np.concatenate([o[1:] for o in whole]).astype(np.float32),
    )
    np.testing.assert_array_equal(found.timeouts, [0, 0, 0, 1, 0, 1])
    assert found.spec.id == "Robot-v5" and found.spec.kwargs == (("a", 1),)
    assert (found.spec.horizon, found.spec.domain) == (7, "locomotion")
    np.testing.assert_allclose(found.spec.score(np.array([1.0])), [50.0])
    assert found.card.identity == found.card.checksum


def test_foreign_dataset_without_environment_has_no_spec(root):
    rng = np.random.default_rng(0)
    foreign("mine/rows-v0", box(3), buffers(lambda n: rng.normal(size=(n, 3)), rng))
    assert read("mine/rows-v0").spec is None


def test_goal_observations_are_flattened_as_gymnasium_does(root):
    rng = np.random.default_rng(0)
    space = gymnasium.spaces.Dict(
        {"observation": box(4), "achieved_goal": box(2), "desired_goal": box(2)}
    )
    widths = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}
    data = buffers(
        lambda steps: {k: rng.normal(size=(steps, w)) for k, w in widths.items()}, rng
    )
    foreign("D4RL/pointmaze/tiny-v0", space, data)
    found = read("D4RL/pointmaze/tiny-v0")
    assert found.observations.shape == (6, 8)
    step = {key: value[1] for key, value in data[1].observations.items()}
    flat = gymnasium.spaces.flatten(space, step).astype(np.float32)
    np.testing.assert_array_equal(found.observations[5], flat)
    np.testing.assert_array_equal(found.next_observations[4], flat)
    parts = ("achieved_goal", "desired_goal", "observation")
    np.testing.assert_array_equal(
        flat, np.concatenate([step[key] for key in parts]).astype(np.float32)
    )


def kitchen_space():
    """Nested goals as FrankaKitchen has them, of unequal widths."""
    goals = {"microwave": box(1), "kettle": box(7), "slide cabinet": box(1)}
    Dict = gymnasium.spaces.Dict
    return Dict(
        {
            "observation": box(4),
            "achieved_goal": Dict(goals),
            "desired_goal": Dict(goals),
        }
    )


def sampled(space, steps):
    """Arrays of `steps` samples in the nesting of the space."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: sampled(part, steps) for key, part in space.items()}
    return np.stack([space.sample() for _ in range(steps)])


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_kitchen_goals_are_flattened_as_gymnasium_does(root, data_format):
    if data_format == "arrow":
        pytest.importorskip("pyarrow")
    space = kitchen_space()
    space.seed(0)
    data = buffers(lambda steps: sampled(space, steps), np.random.default_rng(0))
    data = [dataclasses.replace(episode, infos=None) for episode in data]
    foreign("D4RL/kitchen/tiny-v0", space, data, data_format=data_format)
    found = read("D4RL/kitchen/tiny-v0")
    assert found.observations.shape == (6, 22)

    def step(value, t):
        if isinstance(value, dict):
            return {key: step(part, t) for key, part in value.items()}
        return value[t]

    for row, (episode, t) in enumerate([(0, t) for t in range(4)] + [(1, 0), (1, 1)]):
        for shift, column in ((0, found.observations), (1, found.next_observations)):
            expected = gymnasium.spaces.flatten(
                space, step(data[episode].observations, t + shift)
            )
            np.testing.assert_array_equal(column[row], expected.astype(np.float32))


@pytest.mark.parametrize("extra", [0, 1])
def test_infos_are_read_at_the_observations(root, extra):
    """Minari's collector keeps the info of the reset, T + 1 rows in all."""
    rng = np.random.default_rng(0)
    data = [
        dataclasses.replace(
            episode,
            infos={"qpos": rng.normal(size=(steps + extra, 3)), "deep": {"x": [0]}},
        )
        for episode, steps in zip(
            buffers(lambda n: rng.normal(size=(n, 3)), rng), (4, 2), strict=True
        )
    ]
    foreign("mine/rows-v0", box(3), data)
    for _ in range(2):  # without and with the cache
        found = read("mine/rows-v0", infos=("qpos",))
        np.testing.assert_array_equal(
            found.infos["qpos"],
            np.concatenate([data[0].infos["qpos"][:4], data[1].infos["qpos"][:2]]),
        )
    with pytest.raises(UserError, match="infos qvel"):
        read("mine/rows-v0", infos=("qvel",))
    with pytest.raises(UserError, match="another length"):
        read("mine/rows-v0", infos=("deep/x",))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "os:path-v0"},
        {"id": 3},
        {"max_episode_steps": -5},
        {"max_episode_steps": "many"},
    ],
)
def test_metadata_that_would_mislead_are_refused(root, changes):
    """An id with a colon would have Gymnasium import a module."""
    rng = np.random.default_rng(0)
    foreign("mine/rows-v0", box(3), buffers(lambda n: rng.normal(size=(n, 3)), rng))
    path = root / "mine/rows-v0/data/metadata.json"
    env = {"id": "Robot-v5", "max_episode_steps": 7, "kwargs": {}} | changes
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"env_spec": json.dumps(env)})
    )
    with pytest.raises(UserError, match="malformed"):
        read("mine/rows-v0")


def test_published_actions_outside_the_bounds_are_clipped_and_counted(root):
    rng = np.random.default_rng(0)
    data = buffers(lambda steps: rng.normal(size=(steps, 3)), rng)
    data[0].actions[2] = 1.5
    foreign("mine/rows-v0", box(3), data)
    metadata = root / "mine/rows-v0/data/metadata.json"
    env = json.dumps({"id": "Robot-v5", "max_episode_steps": None})
    metadata.write_text(
        json.dumps(json.loads(metadata.read_text()) | {"env_spec": env})
    )
    found = read("mine/rows-v0")
    np.testing.assert_array_equal(found.actions[2], [1.0, 1.0])
    assert "actions of 1 rows clipped" in str(found.card)
    assert found.spec.horizon == 4  # the longest episode: the environment has no limit


def test_arrow_is_read_as_hdf5(root):
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    # Minari itself cannot read back scalar infos from Arrow files.
    data = [
        dataclasses.replace(episode, infos=None)
        for episode in buffers(lambda steps: rng.normal(size=(steps, 3)), rng)
    ]
    foreign("mine/plain-v0", box(3), data)
    foreign("mine/arrow-v0", box(3), data, data_format="arrow")
    arrow, plain = read("mine/arrow-v0"), read("mine/plain-v0")
    for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(arrow, key), getattr(plain, key))
    np.testing.assert_array_equal(arrow.next_observations, plain.next_observations)


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Dict({"observation": box(2), "image": box(2)}),
        gymnasium.spaces.Box(0, 1, (2, 2), np.float64),
        gymnasium.spaces.Discrete(3),
    ],
)
def test_unknown_layouts_are_named(root, space):
    rng = np.random.default_rng(0)

    def observe(steps):
        if isinstance(space, gymnasium.spaces.Dict):
            return {key: np.zeros((steps, 2)) for key in space.spaces}
        return np.stack([space.sample()] * steps)

    foreign("mine/odd-v0", space, buffers(observe, rng))
    with pytest.raises(UserError, match=r"mine/odd-v0.*layout is unknown"):
        read("mine/odd-v0")
