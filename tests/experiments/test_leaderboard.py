import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.leaderboard.screenshot import find_browser

COMMAND = [sys.executable, "-m", "experiments.leaderboard"]
SCORES = np.array([[10.0, 20.0], [30.0, 40.0]])


@pytest.fixture
def run(experiment):
    def run(*arguments, code=0):
        result = experiment("leaderboard", *arguments)
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    write_run(root, "bc", seeds=(0, 1), scores=SCORES)
    write_run(root, "cfpi", "hopper-medium-v2", seeds=(0, 1), scores=SCORES)
    return root


def test_plain_text_off_a_terminal(run, runs):
    out = run(f"--runs_dir={runs}").stdout
    assert "offjax/maze2d/umaze-v0  bc" in out and "30.0 ± 10.0" in out
    assert "\x1b" not in out
    assert run(f"--runs_dir={runs}").stdout == out


def test_the_leaderboard_itself_imports_no_jax():
    # The package's own __init__ is replaced by an empty one.
    code = """
import importlib, pkgutil, sys, types
offjax = sys.modules["offjax"] = types.ModuleType("offjax")
offjax.__path__ = ["offjax"]
import offjax.leaderboard
for module in pkgutil.iter_modules(offjax.leaderboard.__path__):
    importlib.import_module(f"offjax.leaderboard.{module.name}")
sys.exit(any(name in sys.modules for name in ("jax", "flax", "gymnasium")))
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("markdown", "| dataset | bc |"),
        ("latex", r"\toprule"),
        ("csv", "group,dataset"),
    ],
)
def test_formats_to_the_screen_and_to_a_file(run, runs, tmp_path, kind, expected):
    out = run(f"--runs_dir={runs}", f"--format={kind}").stdout
    assert expected in out
    path = tmp_path / "new" / "board.txt"
    shown = run(f"--runs_dir={runs}", f"--format={kind}", f"--out={path}").stdout
    assert shown.strip() == str(path) and path.read_text() == out


def test_reported_numbers_when_asked(run, runs):
    def sources(*arguments):
        out = run(f"--runs_dir={runs}", "--format=csv", *arguments).stdout
        return {row["source"] for row in csv.DictReader(io.StringIO(out))}

    assert sources() == {"measured"}
    assert sources("--reported") > {"measured", "CORL last"}
    own = run(f"--runs_dir={runs}", "--datasets=offjax/*", "--reported")
    assert "No dataset of these runs" in own.stderr


def test_html_lies_in_the_runs_folder(run, runs):
    path = run(f"--runs_dir={runs}", "--format=html").stdout.strip()
    assert path == str(runs / "leaderboard.html")
    assert "offjax leaderboard" in (runs / "leaderboard.html").read_text()


def test_export_and_check(run, runs, tmp_path):
    out = tmp_path / "contributed"
    assert len(run(f"--runs_dir={runs}", f"--export={out}").stdout.split()) == 2
    assert "2 runs, all sound" in run(f"--runs_dir={out}", "--check").stdout
    path = next(out.rglob("scores.csv"))
    path.write_text(path.read_text().replace("40.0", "99.9"))
    assert "checksum" in run(f"--runs_dir={out}", "--check", code=1).stdout


def test_a_sweep_alone_on_the_page_and_in_an_export(run, runs, tmp_path):
    write_run(runs, "tuned_method", info={"sweep": "tuned"})
    write_run(runs, "other_method")
    run(f"--runs_dir={runs}", "--sweep=tuned", "--format=html")
    page = (runs / "leaderboard.html").read_text()
    assert "tuned_method" in page and "other_method" not in page
    out = tmp_path / "contributed"
    (folder,) = run(
        f"--runs_dir={runs}", "--sweep=tuned", f"--export={out}"
    ).stdout.split()
    assert folder.startswith(str(out / "tuned_method"))


def test_several_folders(run, runs, tmp_path):
    write_run(tmp_path / "more", "asp")
    out = run(f"--runs_dir={runs},{tmp_path / 'more'}").stdout
    assert " asp " in out and " bc " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs_dir=/no/such"], "'/no/such' does not exist"),
        (["--methods=x*"], "--methods=x* matches none"),
        (["--format=html", "--out=/proc/nothing/x.html"], "Cannot write"),
        (["leftover"], "leftover"),
        (["--check", "--sweep=tuned"], "--check does not use --sweep"),
        (["--tuning", "--methods=bc"], "--tuning does not use --methods"),
        (["--export=x", "--format=csv"], "--export does not use --format"),
        (["--watch", "--format=csv"], "--watch does not use --format"),
    ],
)
def test_bad_input_is_one_paragraph_and_exit_code_2(run, runs, arguments, message):
    given = [f"--runs_dir={runs}", *arguments]
    error = run(*given, code=2).stderr
    assert message in error and len(error.strip().splitlines()) == 1


def test_a_folder_without_runs(run, tmp_path):
    assert "No runs in" in run(f"--runs_dir={tmp_path}", code=2).stderr


def test_watch_waits_for_runs_and_follows_them(tmp_path):
    root = tmp_path / "runs"
    root.mkdir()
    process = subprocess.Popen(
        [*COMMAND, f"--runs_dir={root}", "--watch", "--interval=1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A suite that a shell put into the background ignores SIGINT, and so would it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        page = root / "leaderboard.html"
        assert str(page) in process.stdout.readline()
        assert "waiting: No runs" in process.stderr.readline()
        write_run(root, "first_method", info={"status": "running"})
        wait_for(lambda: page.is_file() and "first_method" in page.read_text())
        assert 'data-refresh="1"' in page.read_text()
        write_run(root, "second_method")
        wait_for(lambda: "second_method" in page.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.skipif(
    find_browser() is None, reason="no Chromium: apt-get install chromium"
)
def test_screenshot(run, runs, tmp_path):
    out, page = tmp_path / "board.png", tmp_path / "board.html"
    run(f"--runs_dir={runs}", f"--screenshot={out}", f"--out={page}")
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "offjax leaderboard" in page.read_text()
