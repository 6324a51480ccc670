"""Optional sinks, with stand-ins for the packages that they need."""

import csv
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import offjax
from offjax.errors import UserError
from offjax.runner import sinks

ROWS = [
    (5, 0, "preset=demo", "bc/loss", "0.5"),
    (5, 1, "preset=demo", "bc/loss", "0.25"),
    (10, 0, "a/b", "bc/loss", "0.125"),
]


class Writers:
    """Remembers what event writers and runs were told."""

    def __init__(self):
        self.logged, self.closed, self.begun = [], [], None

    def summary_writer(self, place):
        return SimpleNamespace(
            add_scalar=lambda *row: self.logged.append((place, *row)),
            close=lambda: self.closed.append(place),
        )

    def init(self, **options):
        self.begun = options
        return SimpleNamespace(
            log=lambda values, step: self.logged.append((step, values)),
            finish=lambda: self.closed.append("run"),
        )


def test_tensorboard_has_a_folder_per_seed_and_variant(tmp_path, monkeypatch):
    writers = Writers()
    module = SimpleNamespace(SummaryWriter=writers.summary_writer)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    (sink,) = sinks.make(["tensorboard"], tmp_path, {})
    sink.write(ROWS)
    sink.write(ROWS[:1])
    sink.close()
    places = [
        str(tmp_path / "tensorboard" / name)
        for name in ("preset=demo-seed0", "preset=demo-seed1", "a_b-seed0")
    ]
    assert writers.logged == [
        (places[0], "bc/loss", 0.5, 5),
        (places[1], "bc/loss", 0.25, 5),
        (places[2], "bc/loss", 0.125, 10),
        (places[0], "bc/loss", 0.5, 5),
    ]
    assert writers.closed == places


def test_wandb_has_a_series_per_seed_and_variant(tmp_path, monkeypatch):
    writers = Writers()
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=writers.init))
    (sink,) = sinks.make(["wandb"], tmp_path / "run-1", {"preset": "demo"})
    sink.write(ROWS)
    sink.close()
    assert writers.begun["config"] == {"preset": "demo"}
    assert writers.begun["name"] == "run-1"
    first = {
        "bc/loss/preset=demo/seed0": 0.5,
        "bc/loss/preset=demo/seed1": 0.25,
    }
    assert writers.logged == [(5, first), (10, {"bc/loss/a/b/seed0": 0.125})]
    assert writers.closed == ["run"]


def test_none_by_default_and_unknown_ones_are_named(tmp_path):
    assert sinks.make([], tmp_path, {}) == []
    with pytest.raises(UserError, match="--log=paper is not one of tensorboard, wandb"):
        sinks.make(["paper"], tmp_path, {})


def test_a_missing_package_is_named_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'offjax\[wandb\]'"):
        sinks.make(["wandb"], tmp_path, {})


def scalars(path):
    """(tag, value, step) of an event file."""
    from tensorboardX.proto.event_pb2 import Event

    data, found = path.read_bytes(), []
    while data:  # length, its checksum, event, its checksum
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        found += [(v.tag, v.simple_value, event.step) for v in event.summary.value]
        data = data[16 + length :]
    return found


def test_tensorboards_files_hold_losses_and_scores(budget_dataset, tmp_path):
    pytest.importorskip("tensorboardX")
    run = offjax.train(
        offjax.recipe("bc", preset="demo", num_steps=4, batch_size=4),
        budget_dataset, num_seeds=2, eval_every=2, log_every=2, eval_episodes=1,
        runs_dir=str(tmp_path), log=("tensorboard",), quiet=True,
    )  # fmt: skip
    for seed in (0, 1):
        (folder,) = (run.path / "tensorboard").glob(f"*-seed{seed}")
        (path,) = folder.iterdir()
        found = {(tag, step): value for tag, value, step in scalars(path)}
        for file, tag, column in (
            ("scores.csv", "evaluation/score", "score"),
            ("metrics.csv", "bc/loss", "value"),
        ):
            with (run.path / file).open() as lines:
                rows = [
                    row for row in csv.DictReader(lines)
                    if row["seed"] == str(seed) and row.get("name", tag) == tag
                ]  # fmt: skip
            assert len(rows) >= 2
            for row in rows:
                value = found[tag, int(row["step"])]
                assert value == pytest.approx(float(row[column]), rel=1e-5)


def test_wandb_keeps_a_run_offline(tmp_path):
    pytest.importorskip("wandb", reason="make test does not install the extra wandb")
    code = f"""
from pathlib import Path
from offjax.runner import sinks
(sink,) = sinks.make(["wandb"], Path({str(tmp_path)!r}), {{"preset": "demo"}})
sink.write({ROWS!r})
sink.close()
"""  # the file is whole when the process has ended
    environment = os.environ | {"WANDB_MODE": "offline"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    (path,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"bc/loss/preset=demo/seed1" in path.read_bytes()
