import gzip
import json

import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.leaderboard import board, export, store

SCORES = np.array([[10.0, 20.0], [30.0, 40.0]])


@pytest.fixture
def exported(tmp_path):
    write_run(tmp_path / "runs", "cfpi", seeds=(0, 1), scores=SCORES)
    write_run(tmp_path / "runs", "bc", info={"status": "running"})
    written, notes = export.write(
        store.read([tmp_path / "runs"]).runs, tmp_path / "out"
    )
    assert len(written) == 1 and [note.kind for note in notes] == ["unfinished"]
    return written[0]


def problems(folder):
    return [note.kind for note in export.check(store.read([folder]))]


def test_an_export_reads_like_the_run_and_is_sound(tmp_path, exported):
    assert exported.relative_to(tmp_path).parts[:4] == (
        "out", "cfpi", "offjax", "maze2d",
    )  # fmt: skip
    assert problems(exported) == []
    assert not (exported / "checkpoints").exists()
    both = [
        board.build(store.read([root])).groups[0].cells
        for root in (tmp_path / "runs" / "cfpi", exported)
    ]
    assert [[c.finite.tolist() for c in cells.values()] for cells in both] == [
        [[20.0, 40.0]]
    ] * 2


def test_an_export_is_always_the_same_bytes(tmp_path, exported):
    runs = store.read([tmp_path / "runs" / "cfpi"]).runs
    (again,), _ = export.write(runs, tmp_path / "again")
    for path in exported.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    # Bytes 4 to 7 of a gzip file are its time stamp.
    assert (again / "episodes.csv.gz").read_bytes()[4:8] == bytes(4)


def test_an_export_can_be_exported(tmp_path, exported):
    (again,), _ = export.write(store.read([exported]).runs, tmp_path / "again")
    assert problems(again) == []


@pytest.mark.parametrize("name", ["scores.csv", "run.json", "config.json"])
def test_a_changed_file_is_found_and_its_run_left_out(exported, name):
    path = exported / name
    path.write_text(path.read_text().replace("0", "1", 1))
    found = store.read([exported])
    assert found.runs == [] and [n.kind for n in found.notes] == ["checksum"]
    assert name in found.notes[0].text
    assert problems(exported) == ["checksum"]


def test_a_removed_file_is_found(exported):
    (exported / "episodes.csv.gz").unlink()
    assert problems(exported) == ["checksum"]


def test_checksums_cannot_point_elsewhere(exported):
    path = exported / "checksums.json"
    path.write_text(json.dumps({"../../../secret": "0" * 64}))
    assert problems(exported) == ["checksum"]
    path.write_text("[]")
    assert problems(exported) == ["malformed"]


def test_means_must_be_those_of_the_episodes(tmp_path):
    folder = write_run(tmp_path, seeds=(0, 1), scores=SCORES)
    path = folder / "scores.csv"
    path.write_text(path.read_text().replace("1,2000,1,40.0", "1,2000,1,41.0"))
    (note,) = export.check(store.read([tmp_path]))
    assert note.kind == "mismatch" and "seed 1, step 2000" in note.text


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "variant,seed,step,return\nx,y"])
def test_unreadable_episodes_are_a_problem(tmp_path, content):
    folder = write_run(tmp_path, seeds=(0, 1), scores=SCORES)
    (folder / "episodes.csv").write_text(content)
    assert problems(tmp_path)[0] in ("malformed", "mismatch")


def test_damaged_compression_is_a_problem(tmp_path):
    folder = write_run(tmp_path, seeds=(0, 1), scores=SCORES)
    packed = gzip.compress((folder / "episodes.csv").read_bytes())
    (folder / "episodes.csv").unlink()
    (folder / "episodes.csv.gz").write_bytes(packed[: len(packed) // 2])
    assert problems(tmp_path) == ["malformed"]


def test_names_stay_inside_the_folder(tmp_path):
    write_run(
        tmp_path / "runs", "bc", config={"method": "../../up", "dataset": "/a/.."}
    )
    folder = next(store.find(tmp_path / "runs"))
    path = folder / "scores.csv"
    text = path.read_text().replace("bc,", "../../up,")
    path.write_text(text.replace("offjax/maze2d/umaze-v0", "/a/.."))
    (written,), _ = export.write(store.read([folder]).runs, tmp_path / "out")
    inside = written.resolve().relative_to((tmp_path / "out").resolve())
    assert ".." not in inside.parts and len(inside.parts) == 5
