"""Trials in a small world whose outcomes are known by hand."""

import jax
import numpy as np
import pytest

from offjax.devices.layout import choose_layout
from offjax.distributions import point
from offjax.evaluation import instructions
from offjax.evaluation.batched import BatchedAgent
from offjax.evaluation.instructions import Trial
from offjax.evaluation.rollout import Agent
from offjax.types import Actor, EnvSpec, Method, Model, Params

SPEC = EnvSpec("test/Line-v0", 1, (-1.0,), (1.0,), horizon=6)
SPEED = Method("speed", 1, None, None)
STEPS = {"up": 1.0, "down": -1.0, "stay": 0.0}


class Line:
    """Places on a line: an instruction is done three units from where it was given."""

    observation_dim = 1

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.at, self.given = np.zeros(num_envs), np.zeros(num_envs)
        self.names = [""] * num_envs
        self.log = []

    def begin(self, indices, starts):
        self.at[indices] = starts
        return self.at[indices][:, None].astype(np.float32)

    def step(self, indices, actions):
        assert len(set(indices)) == len(indices) == len(actions)
        self.log.append(len(indices))
        self.at[indices] += actions[:, 0]
        return self.at[indices][:, None].astype(np.float32)

    def instruct(self, indices, names):
        self.given[indices] = self.at[indices]
        for i, name in zip(indices, names, strict=True):
            self.names[i] = name

    def succeeded(self, indices):
        way = np.array([STEPS[self.names[i]] for i in indices])
        return (self.at[indices] - self.given[indices]) * way >= 3

    def limit(self, name):
        return 6

    def close(self):
        pass


class Obedient(Actor):
    """Goes where its sentence says, at the slot's speed."""

    def embed(self, sentences):
        ways = {"go up": 1.0, "go down": -1.0, "wait": 0.0}
        return {"way": np.array([[ways[s]] for s in sentences], np.float32)}

    def begin(self, params, task, key):
        return task["way"]

    def act(self, params, carry, observation, reward, key):
        return point(params.models["speed"].state * carry), carry


def loaded(actor, speeds, places):
    """The actor in `places` places of a slot for each speed."""
    layout = choose_layout(len(speeds), "auto")
    agent = BatchedAgent(Agent(actor), SPEC, places, layout)
    speed = np.array(speeds, np.float32)[:, None]
    agent.load(Params({"speed": Model(SPEED, None, speed)}))
    return agent


def trial(*words, start=0.0):
    said = {"up": "go up", "down": "go down", "stay": "wait"}
    return Trial(start, words, tuple(said[w] for w in words))


def evaluate(trials, speeds, places, env=None):
    agent = loaded(Obedient(), speeds, places)
    env = env or Line(len(speeds) * places)
    return instructions.evaluate(agent, env, trials, range(len(speeds)))


@pytest.fixture(scope="module", autouse=True)
def compiled():
    jax.devices()


TRIALS = [
    trial("up"),
    trial("up", "down", "up"),
    trial("down", "stay", "up"),  # "stay" can never be done
    trial("down", "up", start=9.0),
]


@pytest.mark.parametrize("places", [1, 3, 4])
def test_outcomes_by_hand(places):
    found = evaluate(TRIALS, [1.0, 0.45], places)
    # At full speed an instruction takes three steps; .45 does not do it in six.
    np.testing.assert_array_equal(found.solved, [[1, 3, 1, 2], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found.steps, [[3, 9, 9, 6], [6, 6, 6, 6]])


def test_only_active_places_are_stepped():
    env = Line(4)
    evaluate(TRIALS, [1.0], 4, env)
    assert env.log == [4] * 3 + [3] * 3 + [2] * 3


def test_limit_counts_from_the_instruction():
    found = evaluate([trial("up", "down")], [0.5], 1)  # six steps each
    assert found.solved.tolist() == [[2]] and found.steps.tolist() == [[12]]


def test_words_of_others_are_a_control():
    other = instructions.shuffled(TRIALS)
    assert [t.names for t in other] == [t.names for t in TRIALS]
    for before, after in zip(TRIALS, other, strict=True):
        for a, b in zip(before.sentences, after.sentences, strict=True):
            assert a != b
    found = evaluate(other, [1.0], 4)
    assert found.solved.sum() == 0


def test_per_instruction():
    found = evaluate(TRIALS, [1.0, 0.45], 4)
    counts = instructions.per_instruction(TRIALS, found)
    assert counts == {"up": (4, 6), "down": (3, 5), "stay": (0, 1)}


def test_goals_reach_the_policy():
    """What a trial gives beside its sentences is in the task, place by place."""

    class Pursuing(Obedient):
        def begin(self, params, task, key):
            return task["goals"][-1]

    trials = [
        Trial(0.0, ("up",), ("wait",), ({"goals": np.array([[0.0], [w]], "f4")},))
        for w in (1.0, 0.5, 0.1)
    ]
    agent = loaded(Pursuing(), [1.0], 3)
    found = instructions.evaluate(agent, Line(3), trials, [0])
    assert found.solved.tolist() == [[1, 1, 0]]
