"""Exported agents on the command line: written, verified, trained again."""

import json

import pytest

from offjax.agents import archive
from offjax.leaderboard import export
from tests.agents.test_load import changed


@pytest.fixture
def exported(offjax, finished, tmp_path):
    done = offjax(
        "leaderboard", "--runs_dir=runs", f"--export={tmp_path}", "--parameters",
        "--data_dir=data",
    )  # fmt: skip
    assert done.code == 0, done.errors
    return tmp_path


def test_rows_are_verified_and_trained_again(offjax, exported):
    done = offjax(
        "leaderboard", f"--runs_dir={exported}", "--verify", "--retrain=runs",
        "--data_dir=data",
    )  # fmt: skip
    assert done.code == 0, done.output + done.errors
    first, second, *_, last = done.output.splitlines()
    assert first.startswith("bc/offjax/budget/t10-smooth-v0/")
    assert first.endswith(": verified")
    assert ", training: verified: bc, updates" in second
    assert last.endswith(" verified")


def test_a_changed_row_has_exit_code_1(offjax, exported):
    """Another reference return, with the scores that follow from it."""
    (folder,) = {path.parent for path in exported.rglob(archive.FILE)}
    spec = archive.read(folder / archive.FILE).manifest["spec"]
    low, high = spec["ref_min_score"], spec["ref_max_score"]
    changed(folder / archive.FILE, spec__ref_max_score=(low + high) / 2)
    lines = (folder / "scores.csv").read_text().splitlines()
    for i, line in enumerate(lines[1:], start=1):
        head, score = line.rsplit(",", 1)
        lines[i] = f"{head},{2 * float(score):.6g}"
    (folder / "scores.csv").write_text("\n".join(lines) + "\n")
    sums = export.checksums(folder, json.loads((folder / "checksums.json").read_text()))
    (folder / "checksums.json").write_text(json.dumps(sums))
    row = folder.relative_to(exported)
    done = offjax("leaderboard", f"--runs_dir={exported}", "--verify", f"--rows={row}")
    assert done.code == 1
    assert f"{row}: differs: ref_max_score of the environment is" in done.output
    assert done.output.splitlines()[-1] == "1 differs"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--verify", "--rows=nothing/*"], r"no row nothing/\*"),
        (["--rows=a"], "--rows is read with --verify alone"),
        (["--parameters"], "--parameters is read with --export alone"),
        (["--export=x", "--parameter_seeds=2"], "with --parameters alone"),
        (["--verify", "--methods=bc"], "--verify does not use --methods"),
    ],
)
def test_flags_that_nothing_reads_are_refused(offjax, finished, flags, text):
    import re

    done = offjax("leaderboard", "--runs_dir=runs", *flags)
    assert done.code == 2 and re.search(text, done.errors)


def test_a_run_without_its_dataset_is_exported_without_parameters(
    offjax, finished, tmp_path
):
    done = offjax(
        "leaderboard", "--runs_dir=runs", f"--export={tmp_path}", "--parameters",
        f"--data_dir={tmp_path / 'none'}",
    )  # fmt: skip
    assert done.code == 0
    assert "no parameters: Dataset" in done.errors
    assert not list(tmp_path.rglob(archive.FILE))
    assert list(tmp_path.rglob("checksums.json"))
