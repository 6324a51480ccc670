"""Seconds and steps over interruptions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from offjax.runner.recorder import Account


def test_an_interrupted_run_goes_on_counting():
    first = Account.begin({})
    first.begun -= 1e6
    first.compiled("bc/chunk", SimpleNamespace(compilations=1, compile_seconds=2.0))
    first.trained(updates=5, num_slots=3, seconds=0.5)
    first.trained(updates=5, num_slots=3, seconds=0.5)
    costs = first.costs()
    assert costs["seed_steps_per_second"] == 30.0
    assert costs["duration_seconds"] == pytest.approx(1.0e6, rel=1e-3)
    assert (first.compilations, first.compile_seconds) == ({"bc/chunk": 1}, 2.0)

    second = Account.begin(costs)
    second.begun -= 5e5
    assert second.costs()["start"] == costs["start"]
    assert second.costs()["duration_seconds"] == pytest.approx(1.5e6, rel=1e-3)
    assert second.costs()["seed_steps_per_second"] == 0.0
