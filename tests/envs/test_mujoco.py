"""The batched engine against Gymnasium itself, step for step."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from offjax.envs import mujoco
from offjax.envs.batched import make_batched
from offjax.errors import UserError

pytest.importorskip("mujoco.batch")

CASES = [(robot, version) for robot in mujoco.ROBOTS for version in mujoco.VERSIONS]


def _difference(robot: str, version: str, steps: int, margins: str) -> float:
    """Largest difference of anything over `steps` steps of two episodes side by side.

    Place 1 follows Gymnasium's environment; place 0 is busy with something else.
    """
    spec = mujoco.spec(robot, version, margins)
    batch = make_batched(spec, 2)
    assert isinstance(batch, mujoco.MujocoBatch)
    with mujoco.quiet():
        env = gymnasium.make(spec.id, max_episode_steps=-1)
    if margins == "d4rl" and version == "v4":
        env.unwrapped.model.geom_margin[:] *= 0.5
    rng = np.random.default_rng(1)
    seed = 5
    both = np.arange(2)
    observation = batch.reset(both, [100, seed])[1]
    expected, _ = env.reset(seed=seed)
    worst = [np.abs(observation - expected.astype(np.float32)).max()]
    for _ in range(steps):
        actions = rng.uniform(-1, 1, (2, spec.action_dim)).astype(np.float32)
        observations, rewards, terminals = batch.step(both, actions)
        expected, reward, terminal, _, _ = env.step(actions[1])
        worst.append(np.abs(observations[1] - expected.astype(np.float32)).max())
        worst.append(abs(rewards[1] - reward))
        assert terminals[1] == terminal
        if terminals[0]:
            batch.reset(both[:1], [seed + 1000])
        if terminal:
            seed += 1
            observation = batch.reset(both[1:], [seed])[0]
            expected, _ = env.reset(seed=seed)
            worst.append(np.abs(observation - expected.astype(np.float32)).max())
    qpos, qvel = batch.states(both[1:])
    if not terminal:
        worst.append(np.abs(qpos[0] - env.unwrapped.data.qpos).max())
        worst.append(np.abs(qvel[0] - env.unwrapped.data.qvel).max())
    env.close()
    return max(worst)


@pytest.mark.parametrize(("robot", "version"), CASES)
def test_equals_gymnasium_exactly(robot, version):
    margins = "installed" if version == "v4" else "d4rl"
    assert _difference(robot, version, 60, margins) == 0.0


@pytest.mark.long
@pytest.mark.parametrize(("robot", "version"), CASES)
@pytest.mark.parametrize("margins", mujoco.MARGINS)
def test_equals_gymnasium_exactly_over_1000_steps(robot, version, margins):
    assert _difference(robot, version, 1000, margins) == 0.0


def test_margins_are_those_of_the_larger_geom():
    """Two geoms of margin 1 touch at a gap of 1, not of 2, once corrected."""
    mj = pytest.importorskip("mujoco")
    for gap, touches in ((0.9, True), (1.1, False)):
        model = mj.MjModel.from_xml_string(
            '<mujoco><worldbody><geom type="plane" size="9 9 1" margin="1"/>'
            f'<body pos="0 0 {1 + gap}"><freejoint/><geom size="1" margin="1"/></body>'
            "</worldbody></mujoco>"
        )
        mujoco.correct_margins(model, "Hopper-v4")
        data = mj.MjData(model)
        mj.mj_forward(model, data)
        assert (data.ncon > 0) == touches


def test_margins_of_v5_and_of_other_environments_stay():
    mj = pytest.importorskip("mujoco")
    xml = '<mujoco><worldbody><geom size="1" margin="1"/></worldbody></mujoco>'
    for id, margins in (
        ("Hopper-v5", "d4rl"),
        ("Hopper-v4", "installed"),
        ("Pusher-v4", "d4rl"),
    ):
        model = mj.MjModel.from_xml_string(xml)
        mujoco.correct_margins(model, id, margins)
        assert model.geom_margin[0] == 1.0


@pytest.mark.parametrize("robot", ["hopper", "walker2d", "ant"])
@pytest.mark.parametrize("version", mujoco.VERSIONS)
def test_falling_ends_the_episode_and_v5_pays_no_bonus(robot, version):
    spec = mujoco.spec(robot, version)
    batch = make_batched(spec, 2)
    places = np.arange(2)
    batch.reset(places, [0, 1])
    if robot == "ant":
        batch._qpos[0, 2] = 5.0  # in the air: too high, and nothing is touched
    else:
        batch._qpos[0, 1] = 0.1
    zero = np.zeros((2, spec.action_dim), np.float32)
    before = batch._places.copy()
    _, rewards, terminals = batch.step(places, zero)
    assert terminals.tolist() == [True, False]
    bonus = rewards - (batch._places - before) / batch._seconds
    np.testing.assert_allclose(bonus[0], version == "v4", atol=1e-12)
    contacts = 0.1 if robot == "ant" and version == "v5" else 1e-12  # they cost
    np.testing.assert_allclose(bonus[1], 1.0, atol=contacts)


@pytest.mark.parametrize(
    ("qpos", "qvel", "healthy"),
    [
        ([0, 1.25, 0.0, 0, 0, 0], [0] * 6, True),
        ([0, 0.69, 0.0, 0, 0, 0], [0] * 6, False),
        ([0, 1.25, 0.21, 0, 0, 0], [0] * 6, False),
        ([0, 1.25, -0.21, 0, 0, 0], [0] * 6, False),
        ([500, 1.25, 0.0, 0, 0, 0], [0] * 6, True),  # how far it got is no matter
        ([0, 1.25, 0.0, 0, 101, 0], [0] * 6, False),
        ([0, 1.25, 0.0, 0, 0, 0], [0, 0, 0, 0, 0, -101], False),
        ([0, np.nan, 0.0, 0, 0, 0], [0] * 6, False),
    ],
)
def test_hopper_is_healthy(qpos, qvel, healthy):
    rule = mujoco.ROBOTS["hopper"].healthy
    rows = np.array([qpos], float), np.array([qvel], float)
    assert rule(*rows).tolist() == [healthy]


@pytest.mark.parametrize(
    ("height", "angle", "healthy"),
    [(1.0, 0.0, True), (0.8, 0.0, False), (2.0, 0.0, False), (1.0, 1.0, False)],
)
def test_walker_is_healthy(height, angle, healthy):
    qpos = np.array([[9.0, height, angle, 0, 0, 0, 0, 0, 0]])
    rule = mujoco.ROBOTS["walker2d"].healthy
    assert rule(qpos, np.full((1, 9), 1e3)).tolist() == [healthy]


def test_reset_depends_on_the_seed_alone():
    spec = mujoco.spec("halfcheetah")
    alone = make_batched(spec, 1).reset(np.array([0]), [7])[0]
    batch = make_batched(spec, 4, num_threads=2)
    batch.reset(np.arange(4), [1, 2, 3, 4])
    batch.step(np.arange(4), np.ones((4, 6), np.float32))
    mixed = batch.reset(np.array([3, 0]), [9, 7])
    np.testing.assert_array_equal(mixed[1], alone)
    assert np.abs(mixed[0] - alone).max() > 0


def test_reset_distribution():
    """HalfCheetah: positions U(±.1) around the default, velocities .1·N(0, 1)."""
    spec = mujoco.spec("halfcheetah")
    batch = make_batched(spec, 400)
    batch.reset(np.arange(400), range(400))
    qpos, qvel = batch.states(np.arange(400))
    assert np.abs(qpos).max() <= 0.1
    np.testing.assert_allclose(qpos.std(), 0.1 / np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(qvel.std(), 0.1, rtol=0.05)


def test_spec():
    spec = mujoco.spec("walker2d")
    assert spec.id == "Walker2d-v4" and spec.kwargs == () and spec.horizon == 1000
    np.testing.assert_allclose(spec.score(np.array([1.629008, 4592.3])), [0, 100])
    assert mujoco.spec("ant", "v5").observation_dim == 105
    assert mujoco.spec("hopper", margins="installed").kwargs == (
        ("margins", "installed"),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("humanoid",), "humanoid"),
        (("hopper", "v3"), "v3"),
        (("hopper", "v4", "half"), "half"),
    ],
)
def test_bad_arguments_are_explained(arguments, words):
    with pytest.raises(UserError, match=words):
        mujoco.spec(*arguments)
