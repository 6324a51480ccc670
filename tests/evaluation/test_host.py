"""Host evaluation against plain loops and against rollouts on device."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.experimental.functional import FuncEnv

from offjax.devices.layout import choose_layout
from offjax.distributions import point
from offjax.evaluation import host
from offjax.evaluation.batched import BatchedAgent
from offjax.evaluation.rollout import Agent, evaluate_slot, slot_key
from offjax.types import Actor, EnvSpec, Params

HIDDEN = 64


class Lines:
    """x' = x + a, reward x + 10a, terminal beyond `end`; x starts at its seed's place.

    `starts` maps a reset's seed to the first x. Steps of finished places, and steps
    before a reset, are errors; every reset is counted.
    """

    observation_dim = 1

    def __init__(self, num_envs, end=np.inf, starts=lambda seed: 0.0):
        self.num_envs, self.end, self.starts = num_envs, end, starts
        self.x = np.full(num_envs, np.nan, np.float32)
        self.resets, self.steps = [], 0

    def reset(self, indices, seeds):
        self.resets += list(seeds)
        self.x[indices] = [self.starts(s) for s in seeds]
        return self.x[indices][:, None].copy()

    def step(self, indices, actions):
        assert np.isfinite(self.x[indices]).all() and len(set(indices)) == len(indices)
        assert actions.shape == (len(indices), 1) and actions.dtype == np.float32
        self.steps += len(indices)
        before = self.x[indices].copy()
        self.x[indices] = before + actions[:, 0]
        terminals = self.x[indices] > self.end
        observations = self.x[indices][:, None].copy()
        self.x[indices[terminals]] = np.nan
        return observations, (before + 10 * actions[:, 0]).astype(float), terminals

    def close(self):
        pass


class Line(FuncEnv):
    """The same on device, always from 0."""

    def __init__(self, end):
        super().__init__()
        self.end = end

    def initial(self, rng, params=None):
        return jnp.float32(0)

    def observation(self, state, rng, params=None):
        return state[None]

    def transition(self, state, action, rng, params=None):
        return state + action[0]

    def reward(self, state, action, next_state, rng, params=None):
        return state + 10 * action[0]

    def terminal(self, state, rng, params=None):
        return state > self.end


@dataclasses.dataclass(frozen=True)
class Noisy(Actor):
    """Uses all that a policy is given, every key included, and a small network.

    Carry: (plan, plans made, last executed action, task, noise of the start).
    """

    period: int = 3

    def begin(self, params, task, key):
        task = jnp.float32(0) if task is None else task
        start = 0.1 * jax.random.normal(key)
        return jnp.float32(0), jnp.int32(0), jnp.float32(0), task, start

    def plan(self, params, carry, observation, key):
        hidden = jnp.tanh(observation @ params.acting["w"])
        plan = jnp.mean(hidden @ params.acting["v"]) + 0.1 * jax.random.normal(key)
        return plan, carry[1] + 1, *carry[2:]

    def act(self, params, carry, observation, reward, key):
        plan, plans, last, task, start = carry
        action = plan + 0.1 * plans - 0.5 * last + 0.05 * reward + task + start
        noise = 0.1 * jax.random.normal(key)
        return point((action + noise + params.acting["gain"])[None]), carry

    def record(self, carry, action):
        return (*carry[:2], action[0], *carry[3:])


def parameters(num_slots):
    rng = np.random.default_rng(0)
    states = {
        "w": rng.normal(size=(num_slots, 1, HIDDEN)).astype(np.float32),
        "v": rng.normal(size=(num_slots, HIDDEN, HIDDEN)).astype(np.float32),
    }
    gain = np.linspace(0, 1, num_slots, dtype=np.float32)
    return Params({}, states | {"gain": gain})


SPEC = EnvSpec("line", 1, (-0.5,), (1.5,), 7)


def make(num_slots, places, period=3, layout="map", params=None, policy=None):
    layout = choose_layout(num_slots, layout)
    agent = Agent(policy or Noisy(period))
    batched = BatchedAgent(agent, SPEC, places, layout)
    batched.load(parameters(num_slots) if params is None else params)
    return batched


def compilations(agent):
    return [p.compilations for p in agent.programs]


def start(seed):
    return (seed % 1000) / 1000


def run(agent, seeds, episodes, end=4.0, starts=start, eval_seed=0):
    env = Lines(agent.num_slots * agent.places, end, starts)
    return host.evaluate(agent, env, SPEC.horizon, seeds, episodes, eval_seed), env


@pytest.mark.parametrize(("period", "layout"), [(3, "map"), (1, "vmap")])
def test_episodes_are_those_of_device_rollouts(period, layout):
    agent = make(2, 5, period, layout)
    found, _ = run(agent, [4, 9], 5, starts=lambda seed: 0.0)
    evaluate = jax.jit(evaluate_slot(Agent(Noisy(period)), Line(4.0), SPEC, 5))
    for i, seed in enumerate([4, 9]):
        params = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), parameters(2))
        returns, lengths = evaluate(params, slot_key(seed, 0))
        np.testing.assert_allclose(found.returns[i], returns, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found.lengths[i], lengths)
    assert found.lengths.min() < SPEC.horizon  # some end at a terminal
    assert len(np.unique(found.returns.round(3))) == 10


@pytest.fixture(scope="module")
def whole():
    """Nine episodes of two seeds, all at once."""
    agent = make(2, 9)
    results, env = run(agent, [4, 9], 9)
    return agent, results, env


def test_counts_are_exact_and_every_episode_starts_from_its_own_seed(whole):
    _, results, env = whole
    assert results.returns.shape == results.lengths.shape == (2, 9)
    assert len(set(env.resets)) == 18 and all(0 <= s < 2**31 for s in env.resets)
    assert env.steps == results.lengths.sum()  # what has ended is stepped no more
    assert (results.lengths >= 1).all() and (results.lengths <= 7).all()
    assert (results.lengths == 7).any() and (results.lengths < 7).any()


@pytest.mark.parametrize("places", [1, 4])
def test_an_episode_is_the_same_with_fewer_places_and_with_more_seeds(whole, places):
    _, expected, env = whole
    agent = make(2, places)
    results, queued = run(agent, [4, 9], 9)
    assert sorted(queued.resets) == sorted(env.resets)
    np.testing.assert_array_equal(results.returns, expected.returns)
    np.testing.assert_array_equal(results.lengths, expected.lengths)
    assert compilations(agent) == [1, 1, 1]


def test_an_episode_is_the_same_beside_other_slots_and_in_another_order(whole):
    _, expected, _ = whole
    all_slots = parameters(2)
    chosen = jax.tree.map(lambda x: x[[1, 0, 1]], all_slots)
    results, _ = run(make(3, 4, params=chosen), [9, 4, 9], 3)
    np.testing.assert_array_equal(results.returns, expected.returns[[1, 0, 1], :3])
    np.testing.assert_array_equal(results.lengths, expected.lengths[[1, 0, 1], :3])


def test_another_set_of_episodes_is_another(whole):
    agent, expected, env = whole
    agent.load(parameters(2))
    results, other = run(agent, [4, 9], 9, eval_seed=1)
    assert not set(other.resets) & set(env.resets)
    assert not np.isclose(results.returns, expected.returns).any()


def test_nothing_compiles_again_when_episodes_end_or_parameters_change(whole):
    agent, expected, _ = whole
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: events.append(name)
    )
    agent.load(parameters(2))
    results, _ = run(agent, [4, 9], 9)
    np.testing.assert_array_equal(results.returns, expected.returns)
    doubled = jax.tree.map(lambda x: 2 * x, parameters(2))
    agent.load(doubled)
    results, _ = run(agent, [4, 9], 9)
    assert not np.array_equal(results.returns, expected.returns)
    assert not [e for e in events if "backend_compile" in e]
    assert compilations(agent) == [1, 1, 1]


@dataclasses.dataclass(frozen=True)
class Steps(Actor):
    """Proposes task + 0.1 · plans made + 0.01 · reward; carry: (task, plans)."""

    period: int = 2

    def begin(self, params, task, key):
        return jnp.float32(0) if task is None else task, jnp.float32(0)

    def plan(self, params, carry, observation, key):
        return carry[0], carry[1] + 1

    def act(self, params, carry, observation, reward, key):
        return point((carry[0] + 0.1 * carry[1] + 0.01 * reward)[None]), carry


def test_clipped_actions_are_counted_and_executed_clipped():
    agent = make(1, 2, policy=Steps(1))
    results, _ = run(agent, [0], 2, end=np.inf, starts=lambda seed: 0.0)
    x = total = reward = 0.0
    beyond = 0
    for t in range(7):
        proposed = 0.1 * (t + 1) + 0.01 * reward
        action = min(proposed, 1.5)
        beyond += proposed > 1.5
        reward = x + 10 * action
        x, total = x + action, total + reward
    np.testing.assert_allclose(results.returns, total, rtol=1e-5)
    assert results.clipped[0] == 0 == beyond
    tight = dataclasses.replace(SPEC, action_high=(0.35,))
    agent = BatchedAgent(Agent(Steps(1)), tight, 2, choose_layout(1))
    agent.load(parameters(1))
    results, env = run(agent, [0], 2, end=np.inf, starts=lambda seed: 0.0)
    # Proposed are .1, .21, .32, .43, …: the last four of seven lie outside.
    np.testing.assert_allclose(results.clipped, 4 / 7)
    assert env.x.max() < 0.35 * 7


def test_a_new_task_in_some_places_begins_their_plans_anew():
    agent = make(2, 3, policy=Steps(2))
    everywhere = np.ones((2, 3), bool)
    keys = np.zeros((2, 3, 2), np.uint32)
    tasks = np.linspace(0.1, 0.6, 6, dtype=np.float32).reshape(2, 3)
    agent.init(everywhere, keys, tasks)
    observations, rewards = np.zeros((2, 3, 1), np.float32), np.zeros((2, 3))
    plans = np.zeros((2, 3))
    since = np.zeros((2, 3), int)
    for t in range(6):
        if t == 3:
            some = np.array([[True, False, False], [False, False, True]])
            tasks = np.where(some, np.float32(-0.2), tasks)
            agent.init(some, keys, tasks)
            plans, since = np.where(some, 0, plans), np.where(some, 0, since)
        active = everywhere.copy()
        active[0, 1] = t != 1  # this place stands still once
        plans += active & (since % 2 == 0)
        actions = agent.act(observations, rewards + t, active)
        expected = tasks + 0.1 * plans + 0.01 * np.where(since > 0, t, 0)
        expected = np.where(active, expected, 0)
        np.testing.assert_allclose(actions[..., 0], expected, atol=1e-6)
        since += active
    assert compilations(agent) == [1, 1, 1]
    assert agent.acted.tolist() == [17, 18]


def test_the_first_init_begins_every_place():
    agent = make(1, 2, policy=Steps(1))
    keys, tasks = np.zeros((1, 2, 2), np.uint32), np.array([[0.25, 0.5]], np.float32)
    agent.init(np.array([[True, False]]), keys, tasks)
    everywhere = np.ones((1, 2), bool)
    actions = agent.act(np.zeros((1, 2, 1), np.float32), np.zeros((1, 2)), everywhere)
    np.testing.assert_allclose(actions[0, :, 0], [0.35, 0.6], rtol=1e-6)


def test_places_are_shared_between_many_slots():
    assert host.num_places(10, 10) == 10
    assert host.num_places(64, 100) == host.MAX_PLACES // 64
    assert host.num_places(host.MAX_PLACES + 1, 5) == 1


@dataclasses.dataclass(frozen=True)
class Network(Actor):
    """Two matrix products; with `depth` more of them in every second step's plan."""

    period: int = 2
    depth: int = 0

    def plan(self, params, carry, observation, key):
        x = jnp.concatenate([observation, jnp.zeros(HIDDEN - 1)])
        for _ in range(self.depth):
            x = params.acting["v"] @ x
        return (jnp.sum(x),) if self.depth else carry

    def begin(self, params, task, key):
        return (jnp.float32(0),)

    def act(self, params, carry, observation, reward, key):
        hidden = params.acting["v"] @ (observation @ params.acting["w"])
        return point(jnp.sum(hidden)[None] + carry[0]), carry


def test_operations_of_an_action_are_counted():
    multiply = 2 * HIDDEN * HIDDEN
    found = [
        host.flops_per_action(Agent(Network(2, d)), parameters(2), SPEC) for d in (0, 4)
    ]
    np.testing.assert_allclose(found, [multiply, 3 * multiply], rtol=0.1)


@dataclasses.dataclass(frozen=True)
class Constant(Actor):
    """The same action always."""

    def act(self, params, carry, observation, reward, key):
        return point(params.acting["action"]), carry


def test_hopper_falls_as_it_does_in_gymnasium():
    pytest.importorskip("mujoco")
    from offjax.envs import mujoco as robots
    from offjax.envs.batched import make_batched, make_one

    spec = dataclasses.replace(robots.spec("hopper"), horizon=40)
    actions = np.array([[0.3, -0.2, 0.9], [1.7, 0.0, -0.4]], np.float32)
    agent = BatchedAgent(Agent(Constant()), spec, 2, choose_layout(2, "map"))
    agent.load(Params({}, {"action": actions}))
    found = host.evaluate(agent, make_batched(spec, 4), spec.horizon, [3, 5], 3, 1)
    env = make_one(spec)
    for i, seed in enumerate([3, 5]):
        action = np.clip(actions[i], -1, 1)
        for episode in range(3):
            env.reset(seed=host.reset_seed(seed, episode, 1))
            total, length, terminal = 0.0, 0, False
            while not terminal and length < spec.horizon:
                _, reward, terminal, _, _ = env.step(action)
                total, length = total + reward, length + 1
            assert found.lengths[i, episode] == length
            np.testing.assert_allclose(found.returns[i, episode], total, rtol=1e-12)
    np.testing.assert_array_equal(found.clipped, [0, 1])
    assert found.lengths.min() < spec.horizon
