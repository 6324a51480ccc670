"""A run from its first line to its summary, found again by name, and on a terminal."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
import threading

import pytest

from offjax.cli import lists, summary
from offjax.errors import UserError
from offjax.runner import lookup
from offjax.runner.run import finished as finished_run


def test_the_summary_has_scores_and_the_next_commands(offjax, finished):
    folder, lines = finished
    score, evaluate, board, _ = lines[-4:]
    assert re.fullmatch(r"score \S+ ± \S+ \(2 seeds\)  preset=demo,.*", score)
    assert (
        evaluate
        == f"next: offjax evaluate {folder} --eval_episodes=100 --data_dir=data"
    )
    assert board == "next: offjax leaderboard --runs_dir=runs"
    assert offjax(*board.split()[2:]).code == 0


@pytest.mark.parametrize("name", ["latest", "latest:bc", "ID", "BEGINNING"])
def test_a_run_is_found_by_name(offjax, finished, name):
    run_id = finished[0].split("/")[-1]
    name = {"ID": run_id, "BEGINNING": run_id[:-3]}.get(name, name)
    done = offjax("evaluate", name, "--eval_episodes=2", "--data_dir=data")
    assert done.code == 0, done.errors
    assert done.output.splitlines()[-1] == f"recorded in {finished[0]}/evaluations"


def test_a_runs_settings_are_ranked_without_its_environment(offjax, finished, tmp_path):
    out = tmp_path / "values.csv"
    done = offjax(
        "fqe", finished[0], "--data_dir=data", "--num_steps=20", "--max_rows=200",
        f"--out={out}",
    )  # fmt: skip
    assert done.code == 0, done.errors
    assert re.search(r"^choice=preset=demo", done.output, re.M)
    assert len(out.read_text().splitlines()) == 3  # a header, two seeds


def test_a_damaged_run_does_not_hide_the_others(tmp_path):
    whole = fake(tmp_path, "bc", "20250101-000000-aaaaaaaa")
    damaged = fake(tmp_path, "bc", "20250102-000000-bbbbbbbb")
    (damaged / "run.json").write_text('{"status": "fini')
    assert lookup.find("latest", tmp_path) == whole
    listed = lists.runs(str(tmp_path))
    assert listed[0] == f"{damaged.name}  unreadable"
    assert whole.name in listed[1]


def fake(runs_dir, method, run_id, status="finished"):
    folder = runs_dir / method / "d-v0" / run_id
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(f'{{"status": "{status}"}}')
    (folder / "config.json").write_text(f'{{"method": "{method}"}}')
    return folder


def test_names(tmp_path):
    old = fake(tmp_path, "bc", "20250101-000000-aaaaaaaa")
    new = fake(tmp_path, "iql", "20250102-000000-bbbbbbbb")
    fake(tmp_path, "iql", "20250103-000000-cccccccc", status="running")
    fake(tmp_path / "tuning", "iql", "20250104-000000-dddddddd")
    assert lookup.find("latest", tmp_path) == new
    assert lookup.find("latest:bc", tmp_path) == old
    assert lookup.find("20250102", tmp_path) == new
    assert lookup.find(old, tmp_path) == old
    for name, words in (
        ("latest:awac", "no finished run of awac.*bc, iql"),
        ("2025", "3 runs are called 2025"),
        ("20260101", "no run of that id"),
        ("bc/nothing", "does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            lookup.find(name, tmp_path)


def test_python_takes_names_too(tmp_path, monkeypatch):
    fake(tmp_path / "runs", "iql", "20250102-000000-bbbbbbbb")
    monkeypatch.chdir(tmp_path)
    assert finished_run("latest:iql").path.name == "20250102-000000-bbbbbbbb"


def on_terminal(offjax, columns, *arguments):
    """What a command shows on a terminal of so many columns."""
    master, slave = os.openpty()
    size = struct.pack("HHHH", 24, columns, 0, 0)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
    chunks = []

    def drain():
        try:
            while data := os.read(master, 4096):
                chunks.append(data)
        except OSError:  # the last writer is gone
            pass

    reader = threading.Thread(target=drain)
    reader.start()
    done = offjax(*arguments, output=os.ttyname(slave))
    os.close(slave)
    reader.join()
    os.close(master)
    assert done.code == 0, done.errors
    return b"".join(chunks).decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_a_stage_is_one_line_that_fits_the_terminal(offjax, tiny, columns):
    flags = ("--num_steps=40", "--log_every=10", f"--eval_seed={columns}")
    flags += ("--noreuse_stages", "--runs_dir=terminal")
    shown = on_terminal(offjax, columns, "run", *tiny, *flags)
    (stage,) = (line for line in shown.split("\n") if "\x1b[2K" in line)
    views = [re.sub(r"\x1b\[\d+m", "", v) for v in stage.split("\r\x1b[2K")]
    assert len(views) >= 5
    assert [view for view in views if len(view) >= columns] == []
    assert "compiling" in views[0]
    assert any("evaluating" in view for view in views)
    if columns == 160:
        last = views[-1]
        assert last.startswith("bc  ━━━━")
        for word in ("40/40", "/s  ETA 0:00", "loss ", "score "):
            assert word in last


def test_colors_on_a_terminal(offjax, tiny):
    flags = ("--runs_dir=colors", "--noreuse_stages")
    shown = on_terminal(offjax, 100, "run", *tiny, *flags)
    assert "\x1b[36m━" in shown
    shown = on_terminal(offjax, 100, "run", *tiny, *flags, "--color=never")
    assert "━" in shown and not re.search(r"\x1b\[\d+m", shown)


def test_a_run_without_reference_scores_tells_its_returns():
    rows = [{"score": "nan", "return_mean": str(r)} for r in (10.0, 20.0)]
    assert summary.result(rows) == "return 15 ± 5 (2 seeds)"


def test_several_datasets_have_a_run_each(offjax, tiny):
    names = "offjax/budget/t10-smooth-v0", "offjax/budget/t50-smooth-v0"
    flags = [flag for flag in tiny if not flag.startswith("--dataset")]
    done = offjax("run", *flags, f"--dataset={','.join(names)}", "--runs_dir=several")
    assert done.code == 0, done.errors
    assert "bc: 6 updates × 2 datasets × 2 seeds, compiling" in done.output
    found = re.findall(r"^run: several/bc/(.*)/\S+$", done.output, re.M)
    assert found == list(names)
    done = offjax("run", *flags, f"--dataset={names[0]},{names[0]}")
    assert done.code == 2 and "give each dataset once" in done.errors
