"""What the progress line says."""

import sys

import numpy as np

from offjax.runner.progress import Progress


def test_rate_eta_and_the_range_over_seeds(capsys):
    progress = Progress("asp · d-v0", 10_000)
    metrics = {"asp/grad_norm": np.ones(2), "asp/loss": np.array([1.0, 3.0])}
    progress.chunk("asp", 1_000, 1_000, 2, 4.0, metrics)
    line = capsys.readouterr().out
    # 250 updates of 2 seeds a second; 9 000 updates are left.
    assert line == (
        "asp · d-v0  asp 1,000/10,000  500 seed-steps/s  ETA 00:00:36"
        "  asp/loss 2 [1, 3]\n"
    )
    progress.chunk("asp", 2_000, 1_000, 2, 1.0, metrics)
    assert "800 seed-steps/s  ETA 00:00:20" in capsys.readouterr().out


def test_the_last_score_stays_in_the_line_and_diverged_seeds_do_not_count(capsys):
    progress = Progress("bc", 10)
    progress.scores(np.array([[50.0, np.nan, 70.0]]), 5)
    assert capsys.readouterr().out == "bc  evaluated at 5:  score 60 [50, 70]\n"
    progress.chunk("bc", 6, 1, 3, 1.0, {"loss": np.full(3, np.nan)})
    assert "loss -  score 60 [50, 70]" in capsys.readouterr().out
    progress.chunk("bc", 7, 1, 1, 1.0, {"loss": np.array([0.25])})
    assert "loss 0.25  score" in capsys.readouterr().out


def test_quiet(capsys):
    progress = Progress("bc", 10, quiet=True)
    progress.say("hello")
    progress.chunk("bc", 6, 1, 3, 1.0, {})
    progress.close()
    assert capsys.readouterr().out == ""


def test_a_terminal_has_one_line_that_is_rewritten(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    progress = Progress("bc", 10)
    for step in (1, 2):
        progress.chunk("bc", step, 1, 1, 1.0, {})
    progress.close()
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.endswith("\n")
    assert out.count("\r\x1b[2K") == 2
