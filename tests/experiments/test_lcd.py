"""The chapter's tables name what there is; planned and real latents by hand."""

import numpy as np
import pytest

from benchmarks import planning
from experiments import cli
from experiments.lcd import latents, tables
from offjax.recipes import RECIPES, build
from offjax.runner.settings import expand


@pytest.mark.parametrize("name", list(tables.TABLES))
def test_every_entry_can_be_run(name):
    for entry in tables.TABLES[name]:
        assert entry.method in RECIPES
        call = tables.command(entry, "offjax/scene/play-v0", "small")
        assert call[:3] == [
            f"--method={entry.method}",
            "--dataset=offjax/scene/play-v0",
            "--preset=small",
        ]
        overrides = cli.parse_grid([a.removeprefix("--config.") for a in call[3:]])
        (job,) = expand(build(entry.method, None, "small"), overrides)
        configs = {s.name: s.config for s in job.recipe.stages}
        for setting, value in entry.settings:
            stage, field = setting.split(".")
            found = getattr(configs[stage], field)
            found = ",".join(found) if isinstance(found, tuple) else str(found)
            assert found == value


def test_distances_by_hand():
    recorded = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    planned = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 3.0]])
    present = np.array([[0.0, 2.0], [3.0, 4.0], [0.0, 1.0]])
    found = latents.numbers(latents.Latents(present, recorded, planned))
    real = (1 + np.sqrt(9 + 9) + 1) / 3
    expected = {"error": 4 / 3, "persistence": 4 / 3, "off": 2 / 3, "real": real}
    assert found == pytest.approx(expected)


def test_components_are_those_of_most_variance():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    points = rng.normal(size=(500, 3)) * [5, 1, 0.1] @ axes.T + 7
    mean, directions = latents.components(points)
    np.testing.assert_allclose(mean, points.mean(0))
    assert np.abs(np.diag(directions.T @ axes[:, :2])).min() > 0.99


def test_cost_of_planning_is_shared_among_the_actions(monkeypatch):
    """With a stand-in for the clock: every plan takes two seconds."""
    monkeypatch.setattr(planning, "seconds", lambda call, least: 2.0)
    measured = planning.costs(10, "demo", 0.0)
    found = {
        c.method: (c, r)
        for c, r in zip(measured, planning.ratios(measured), strict=True)
    }
    assert found["lcd ddim 5"][0].passes == 5
    assert found["lcd ddpm 20"][0].passes == 20
    assert found["lcd ddim 5"][0].seconds_per_action == pytest.approx(2 / 10 / 16)
    assert found["diffuser ddpm 20"][1] == 1
    assert found["lcd ddim 5"][1] == pytest.approx(16 / 8)
    assert "ddim 5" in planning.line(*found["lcd ddim 5"])
