"""The one-state experiment: its ordering on one-sided data, its trap on two-sided."""

import numpy as np

from experiments.action_gradient import toy


def rewards(two_sided):
    outcome = toy.run(5, two_sided)
    found = 1.0 - np.asarray(outcome.actions) ** 2
    data = np.abs(np.asarray(outcome.data))
    assert data.min() >= 0.5 and data.max() <= 1.0
    return dict(zip(toy.METHODS, found.T, strict=True))


def test_critics_leave_one_sided_data_and_imitation_does_not():
    found = rewards(two_sided=False)
    for seed in range(5):
        imitation = max(found["DT"][seed], found["TP"][seed])
        assert imitation < 0.76
        assert found["PG"][seed] > 0.78
        assert found["AG"][seed] > 0.78
    assert abs(found["DT"].mean() - found["TP"].mean()) < 0.1


def test_two_sided_data_are_a_trap():
    found = rewards(two_sided=True)
    assert found["DT"].min() > 0.95  # the optimum, by accident
    assert found["AG"].mean() < found["TP"].mean()  # nothing to gain
