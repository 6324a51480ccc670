"""What is remembered of an evaluation, by hand."""

import numpy as np
import pytest

from offjax.errors import UserError
from offjax.evaluation import instructions, recorded
from offjax.evaluation.instructions import Trial
from offjax.types import EnvSpec

SPEC = EnvSpec("test/Count-v0", 2, (-1.0,), (1.0,), 10, domain="scene")


class Counting:
    """Observes (start, steps since then); "two" takes two steps, "never" forever."""

    observation_dim = 2

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.now = np.zeros((num_envs, 2), np.float32)
        self.given = np.zeros(num_envs)
        self.told = np.zeros(num_envs, object)

    def begin(self, indices, starts):
        self.now[indices] = [(start, 0) for start in starts]
        return self.now[indices]

    def step(self, indices, actions):
        self.now[indices, 1] += 1
        return self.now[indices]

    def instruct(self, indices, names):
        self.given[indices], self.told[indices] = self.now[indices, 1], list(names)

    def succeeded(self, indices):
        since = self.now[indices, 1] - self.given[indices]
        wanted = {"two": 2, "three": 3, "never": 99}
        return since >= [wanted[name] for name in self.told[indices]]

    def limit(self, name):
        return 4

    def close(self):
        pass


class Actor:
    """Acts by a tenth of the steps that it sees."""

    def __init__(self, slots, places):
        self.num_slots, self.places = slots, places

    def init(self, mask, keys, tasks=None):
        pass

    def act(self, observations, rewards, active):
        return observations[..., 1:] / 10

    def embed(self, sentences):
        return {}


TRIALS = [
    Trial(7, ("two", "three"), ("do two", "then three")),
    Trial(8, ("never", "two"), ("do never", "do two")),
    Trial(9, ("three", "never"), ("three now", "do never")),
]


def played(slots, places):
    env = recorded.Recorder(Counting(slots * places), places)
    instructions.evaluate(Actor(slots, places), env, TRIALS, [*range(slots)])
    return env.spans


def test_what_succeeded_becomes_described_play():
    data = recorded.described(
        played(1, 2), TRIALS, SPEC, id="rollouts/a-v0", identity="x"
    )
    np.testing.assert_array_equal(
        data.observations,
        [(7, 0), (7, 1), (7, 2), (7, 3), (7, 4), (9, 0), (9, 1), (9, 2)],
    )
    np.testing.assert_allclose(data.actions[:, 0], data.observations[:, 1] / 10)
    np.testing.assert_array_equal(
        data.next_observations - data.observations, [(0, 1)] * 8
    )
    assert data.episode_ends.tolist() == [5, 8]
    spans = data.annotations
    assert spans.starts.tolist() == [0, 2, 5] and spans.ends.tolist() == [2, 5, 8]
    named = [spans.names[i] for i in spans.instructions]
    assert named == ["two", "three", "three"]
    said = [spans.text(i) for i in range(3)]
    assert said == ["do two", "then three", "three now"]


def test_the_number_of_places_does_not_matter():
    for mine, other in zip(played(2, 1), played(2, 3), strict=True):
        assert mine[:3] == other[:3]
        np.testing.assert_array_equal(mine.observations, other.observations)
        np.testing.assert_array_equal(mine.actions, other.actions)


def test_nothing_succeeded():
    with pytest.raises(UserError, match="None of the 3 trials"):
        recorded.described([], TRIALS, SPEC, id="rollouts/none-v0")
