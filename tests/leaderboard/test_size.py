"""The promise of size; `benchmarks.leaderboard` measures speed."""

import pytest

from benchmarks.board import write_board
from benchmarks.leaderboard import measure, write_store


def test_small_store(tmp_path):
    number = write_store(tmp_path / "runs", methods=2, datasets=3, runs=2)
    assert number == 12
    measured = measure(tmp_path / "runs", tmp_path / "page.html")
    assert measured["page_megabytes"] < 1


@pytest.mark.long
def test_two_thousand_runs(tmp_path):
    assert write_store(tmp_path / "runs") == 2000
    measured = measure(tmp_path / "runs", tmp_path / "page.html")
    assert measured["page_megabytes"] <= 10.0


@pytest.mark.parametrize(
    ("number", "megabytes"), [(8, 2), pytest.param(40, 10, marks=pytest.mark.long)]
)
def test_a_whole_benchmark(tmp_path, number, megabytes):
    write_board(tmp_path / "runs", number, number)
    measured = measure(tmp_path / "runs", tmp_path / "page.html")
    assert measured["page_megabytes"] <= megabytes
