"""The promise of size; `benchmarks.leaderboard` measures speed."""

import pytest

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
