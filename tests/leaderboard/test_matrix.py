import csv
import io
import re

import numpy as np
import pytest
from rich.console import Console

from benchmarks.leaderboard import write_run
from offjax.leaderboard import board, matrix, matrix_tables, statistics, store
from offjax.leaderboard.board import Column

U, M, L = (f"offjax/maze2d/{name}-v0" for name in ("umaze", "medium", "large"))
H = "offjax/hopper/medium-v1"


def write(root, method, dataset, *values, **options):
    options = {"variants": ("preset=small",), **options}
    scores = np.array(values, float)[:, None]
    write_run(root, method, dataset, seeds=range(len(values)), scores=scores, **options)


def build(root, planned=(), **options):
    return matrix.build(board.build(store.read([root]), **options), planned)


def entries(made, name):
    """Method → entry of the row of a dataset, a domain, or of all ("")."""
    (row,) = [r for r in made.rows if r.name == name]
    return {column.method: entry for column, entry in row.entries.items()}


@pytest.fixture
def root(tmp_path):
    """cfpi beats bc on the mazes; iql is level with it; asp lacks a dataset."""
    for dataset, level in ((U, 10), (M, 40), (H, 60)):
        luck = np.array([-9, -3, 0, 5, 7])
        write(tmp_path, "bc", dataset, *(level + luck))
        write(tmp_path, "cfpi", dataset, *(level + 30 + luck + [1, 0, -1, 0, 0]))
        write(tmp_path, "iql", dataset, *(level + 28 + luck[::-1]))
    write(tmp_path, "asp", U, 95, 96, 97, 98, 99)
    return tmp_path


def test_rows_are_datasets_by_domain_with_means_and_the_whole(root):
    made = build(root)
    assert [(row.kind, row.name) for row in made.rows] == [
        ("dataset", H), ("dataset", M), ("dataset", U), ("mean", "offjax/maze2d"),
        ("iqm", ""),
    ]  # fmt: skip
    assert [made.label(row) for row in made.rows] == [
        "hopper/medium-v1", "maze2d/medium-v0", "maze2d/umaze-v0", "maze2d: mean of 2",
        "all: IQM of 3",
    ]  # fmt: skip
    assert entries(made, "offjax/maze2d")["bc"].estimate.value == pytest.approx(25)


def test_columns_are_those_with_most_datasets_and_the_best_iqm_first(root):
    assert [c.method for c in build(root).columns] == ["cfpi", "iql", "bc", "asp"]


def test_the_best_and_its_equals(root):
    made = build(root)
    found = entries(made, M)
    assert found["cfpi"].best and not found["cfpi"].level
    assert found["iql"].level and not found["iql"].best
    # bc is as far from cfpi in its mean as the seeds are from each other, but paired.
    assert not found["bc"].level
    assert entries(made, U)["asp"].best
    assert not entries(made, U)["cfpi"].level


def test_the_whole_is_the_iqm_of_what_a_method_has(root):
    found = entries(build(root), "")
    expected = statistics.intervals(
        [level + np.array([-9.0, -3, 0, 5, 7]) for level in (60, 40, 10)]
    )["iqm"]
    assert found["bc"].estimate == pytest.approx(expected)
    assert found["bc"].datasets == 3 and found["asp"].datasets == 1
    assert found["asp"].estimate.value > found["cfpi"].estimate.value
    assert [m for m, e in found.items() if e.best] == ["cfpi"]
    assert [m for m, e in found.items() if e.level] == ["iql"]


def test_a_domain_of_which_a_method_lacks_a_dataset_has_no_mean_of_it(root):
    entry = entries(build(root), "offjax/maze2d")["asp"]
    assert np.isnan(entry.estimate.value) and entry.datasets == 1 and not entry.best
    text = matrix_tables.markdown(build(root))
    (line,) = [x for x in text.splitlines() if "mean of 2" in x]
    assert line.endswith(" 1 of 2 |")


def test_an_unfinished_method_is_not_best(tmp_path):
    write(tmp_path, "bc", U, 1, 2, 3)
    write(tmp_path, "cfpi", U, 2, 3, 5)
    write(tmp_path, "asp", U, 7, 8, 9, info={"status": "running"})
    found = entries(build(tmp_path), U)
    assert found["cfpi"].best and not found["asp"].best and not found["asp"].level
    assert "8.0*" in matrix_tables.markdown(build(tmp_path)).replace("\\", "")


def test_a_single_seed_is_level_with_the_best(tmp_path):
    write(tmp_path, "bc", U, 1)
    write(tmp_path, "cfpi", U, 90)
    found = entries(build(tmp_path), U)
    assert found["cfpi"].best and found["bc"].level


def test_returns_take_no_part_in_means(tmp_path):
    for method, value in (("bc", 10), ("cfpi", 30)):
        for dataset in (U, M):
            write(tmp_path, method, dataset, value, value + 1)
    for path in tmp_path.rglob("umaze-v0/*/scores.csv"):
        lines = path.read_text().splitlines()
        cut = [lines[0], *(line.rsplit(",", 1)[0] + "," for line in lines[1:])]
        path.write_text("\n".join(cut) + "\n")
    made = build(tmp_path)
    assert [row.kind for row in made.rows] == ["dataset", "dataset"]
    assert "umaze-v0 (return)" in matrix_tables.markdown(made)


def test_what_is_planned_is_counted(root):
    every = [(d, m) for d in (U, M, L) for m in ("bc", "cfpi", "iql", "cql")]
    made = build(root, every)
    assert (made.filled, made.planned) == (6, 12)
    assert "6 of 12 cells are filled" in matrix_tables.caption(made)
    assert "are filled" not in matrix_tables.caption(build(root))  # without a plan


def test_a_shared_preset_is_named_once(root):
    text = matrix_tables.markdown(build(root))
    assert text.count("small") == 1 and "preset small" in text
    write(root, "bc", U, 1, 2, variants=("preset=small,lr=0.1",), run_id="y")
    made = build(root)
    assert made.heading(Column("bc", "preset=small,lr=0.1")) == "BC (lr=0.1)"
    write(root, "bc", M, 1, 2, variants=("default",), run_id="x")
    assert build(root).common == ""


def test_markdown_has_a_short_column_for_each_method(root):
    lines = matrix_tables.markdown(build(root)).splitlines()
    assert lines[0] == "|  | CFPI | IQL | BC | asp |".replace("asp", "ASP")
    assert lines[3] == "| maze2d/medium-v0 | **70.0** | 68.0 = | 40.0 | – |"
    assert [line.split(" | ")[-1] for line in lines[-5:-2]][-1] == "1 |"
    assert "Student's" in lines[-1]


def test_plain_text_and_terminal_show_every_column(root):
    plain = "\n".join(matrix_tables.plain_lines(build(root)))
    assert re.search(r"maze2d/medium-v0 +70.0 \+ +68.0 = +40.0 +–$", plain, re.M)
    for width in (50, 200):
        out = io.StringIO()
        console = Console(file=out, width=width, force_terminal=True, color_system=None)
        matrix_tables.write_terminal(build(root), console)
        for text in ("CFPI", "ASP", "70.0 +", "68.0 =", "IQM of 3", "97.0 +"):
            assert text in out.getvalue()


def test_csv_is_exact(root):
    made = build(root)
    for row in made.rows:  # the same file every time
        assert list(row.entries) == sorted(row.entries, key=lambda c: c.label)
    rows = list(csv.DictReader(io.StringIO(matrix_tables.csv_text(made))))
    assert len(rows) == sum(len(row.entries) for row in made.rows)
    (row,) = [r for r in rows if r["row"] == "iqm" and r["method"] == "asp"]
    assert (row["datasets"], row["of_datasets"], row["best"]) == ("1", "3", "0")
    (row,) = [r for r in rows if r["name"] == M and r["method"] == "iql"]
    assert float(row["value"]) == pytest.approx(68) and row["level"] == "1"


def test_latex(root):
    text = matrix_tables.latex(build(root))
    assert r"maze2d/medium-v0 & \textbf{70.0} & 68.0$^=$ & 40.0 & -- \\" in text
    assert text.count(r"\midrule") == 3 and "–" not in text
