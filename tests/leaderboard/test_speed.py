"""The promises of speed and size, measured as `benchmarks.leaderboard` does."""

import pytest

from benchmarks.leaderboard import measure, measure_bootstrap, write_store


def test_fifty_thousand_replicates_take_at_most_three_seconds():
    assert measure_bootstrap(50_000) <= 3.0


def test_small_store(tmp_path):
    number = write_store(tmp_path / "runs", methods=2, datasets=3, runs=2)
    assert number == 12
    measured = measure(tmp_path / "runs", tmp_path / "page.html")
    assert measured["page_megabytes"] < 1


@pytest.mark.long
def test_two_thousand_runs(tmp_path):
    assert write_store(tmp_path / "runs") == 2000
    measured = measure(tmp_path / "runs", tmp_path / "page.html")
    assert measured["table"] <= 5.0
    assert measured["page"] <= 20.0
    assert measured["page_megabytes"] <= 10.0
