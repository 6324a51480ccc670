"""The promises about seeds, layouts, divergence and stages, on tiny runs."""

import json

import jax
import numpy as np

from offjax import methods
from tests.runner.tiny_training import PLAIN, exploding, rows, states, train


def test_run_folder_holds_what_the_contract_says(plain, budget_dataset):
    trainer = plain
    scores = rows(trainer, "scores.csv")
    assert [(r["seed"], r["step"]) for r in scores] == [
        ("0", "5"), ("1", "5"), ("0", "10"), ("1", "10"),
    ]  # fmt: skip
    assert len(rows(trainer, "episodes.csv")) == 12
    for row in scores:
        mine = [
            float(e["return"])
            for e in rows(trainer, "episodes.csv")
            if (e["seed"], e["step"]) == (row["seed"], row["step"])
        ]
        np.testing.assert_allclose(np.mean(mine), float(row["return_mean"]), rtol=1e-6)
        expected = budget_dataset.spec.score(np.mean(mine))
        np.testing.assert_allclose(expected, float(row["score"]), atol=1e-3)
    record = json.loads((trainer.path / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["total_steps"] == 10
    assert record["seed_layout"] == "map"
    assert {"jax", "offjax", "python"} <= set(record["versions"])
    config = json.loads((trainer.path / "config.json").read_text())
    assert config["seeds"] == [0, 1]
    assert config["stages"]["asp"]["config"]["hidden_dims"] == [16]


def test_each_program_is_compiled_once_for_a_whole_run(budget_dataset, tmp_path):
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: events.append(name)
    )
    trainer = train(budget_dataset, tmp_path / "few", log_every=10, eval_every=10)
    few = sum("backend_compile" in e for e in events)
    events.clear()
    many_trainer = train(budget_dataset, tmp_path / "many", log_every=3, eval_every=4)
    many = sum("backend_compile" in e for e in events)
    once = {"asp/init": 1, "asp/chunk": 1, "evaluation": 1}
    assert trainer.folder.record["compilations"] == once
    assert many_trainer.folder.record["compilations"] == once
    assert many <= few  # six chunks and three evaluations compile no more than one


def test_chunks_do_not_change_the_result(plain, budget_dataset, tmp_path):
    other = train(budget_dataset, tmp_path, log_every=3, eval_every=4)
    for a, b in zip(states(plain), states(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_shorter_chunks_change_nothing_that_is_written(budget_dataset, tmp_path):
    steps = {"num_steps": (80,)}
    options = {"log_every": 40, "overrides": steps}
    one = train(budget_dataset, tmp_path / "a", **options)
    many = train(budget_dataset, tmp_path / "b", chunk_seconds=1e-6, **options)
    assert rows(many, "metrics.csv") == rows(one, "metrics.csv")
    for a, b in zip(states(one), states(many), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_seed_alone_is_the_same_seed_among_others(budget_dataset, tmp_path):
    together = train(budget_dataset, tmp_path / "a", num_seeds=5, layout="map")
    alone = train(budget_dataset, tmp_path / "b", num_seeds=1, seed=3, layout="map")
    for a, b in zip(states(together), states(alone), strict=True):
        np.testing.assert_array_equal(a[3], b[0])
    score = {r["seed"]: r["score"] for r in rows(together, "scores.csv")}
    assert rows(alone, "scores.csv")[0]["score"] == score["3"]


def test_one_device_gives_what_two_give(plain, budget_dataset, tmp_path):
    assert plain.training.stages[-1].layout.active == 2
    one = train(budget_dataset, tmp_path, layout="map", max_devices=1)
    assert one.training.stages[-1].layout.active == 1
    for a, b in zip(states(one), states(plain), strict=True):
        np.testing.assert_array_equal(a, b)


def test_vmap_agrees_with_map(budget_dataset, tmp_path):
    mapped = train(budget_dataset, tmp_path / "a", layout="map", num_seeds=3)
    vmapped = train(budget_dataset, tmp_path / "b", layout="vmap", num_seeds=3)
    assert vmapped.folder.record["seed_layout"] == "vmap"
    for a, b in zip(states(mapped), states(vmapped), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_values_of_a_scalar_are_slots_of_one_program(budget_dataset, tmp_path):
    trainer = train(
        budget_dataset, tmp_path / "a", overrides={"lr": (1e-3, 1e-2)}, layout="map"
    )
    assert trainer.training.stages[-1].slots.num_slots == 4
    assert trainer.folder.record["compilations"]["asp/chunk"] == 1
    single = train(
        budget_dataset, tmp_path / "b", overrides={"lr": (1e-2,)}, layout="map"
    )
    for a, b in zip(states(trainer), states(single), strict=True):
        np.testing.assert_array_equal(a[2:], b)
    variants = {r["variant"] for r in rows(trainer, "scores.csv")}
    assert len(variants) == 2 and all("preset=demo" in v for v in variants)


def test_a_diverged_seed_is_frozen_and_the_others_go_on(
    budget_dataset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(methods.METHODS, "bc", exploding(1))
    trainer = train(
        budget_dataset,
        tmp_path,
        "bc",
        num_seeds=3,
        log_every=4,
        checkpoint_every=10,
        quiet=False,
    )
    steps = trainer.states["bc"].step
    np.testing.assert_array_equal(steps, [10, 4, 10])
    assert all(np.isfinite(x).all() for x in states(trainer))
    record = json.loads((trainer.path / "run.json").read_text())
    assert record["diverged"] == [
        {"seed": 1, "variant": record["variants"][0], "stage": "bc", "step": 8}
    ]
    assert "seed 1 diverged" in capsys.readouterr().out
    logged = {(r["seed"], r["step"]) for r in rows(trainer, "metrics.csv")}
    assert ("1", "4") in logged and ("1", "8") not in logged and ("2", "10") in logged


def test_a_profile_is_written_beside_the_run(plain, budget_dataset, tmp_path, capsys):
    options = PLAIN | {"profile": str(tmp_path / "trace")}
    traced = train(budget_dataset, tmp_path / "b", **options)
    assert len([*(tmp_path / "trace").rglob("perfetto_trace.json.gz")]) == 1
    assert traced.training.hash == plain.training.hash
    train(budget_dataset, tmp_path / "b", quiet=False, **options)
    assert "not profiled (--noreuse_stages)" in capsys.readouterr().out
    for a, b in zip(states(plain), states(traced), strict=True):
        np.testing.assert_array_equal(a, b)
