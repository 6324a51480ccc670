import csv
import io

import numpy as np
import pytest
from rich.console import Console

from benchmarks.leaderboard import write_run
from offjax.leaderboard import board, store, table, tables

U, M = "offjax/maze2d/umaze-v0", "offjax/maze2d/medium-v0"


def ends(*values):
    return np.array(values, float)[:, None]


@pytest.fixture
def built(tmp_path):
    write_run(tmp_path, "bc", U, seeds=range(3), scores=ends(1, 2, 3))
    write_run(tmp_path, "bc", M, seeds=range(3), scores=ends(10, 20, 30))
    write_run(tmp_path, "cfpi", U, seeds=range(3), scores=ends(4, 5, 6),
              variants=("preset=small",), info={"status": "running"})  # fmt: skip
    write_run(tmp_path, "cfpi", M, seeds=[0], scores=ends(77.77),
              variants=("preset=small",))  # fmt: skip
    return board.build(store.read([tmp_path]))


def test_off_a_terminal_one_item_a_line_and_nothing_cut(built):
    out = io.StringIO()
    tables.write_terminal(built, Console(file=out, width=20))
    lines = out.getvalue().splitlines()
    (line,) = [x for x in lines if x.startswith(M) and "cfpi" in x]
    assert "cfpi (preset=small)" in line and "77.8" in line and "1 seed " in line
    assert line.endswith("best")
    (line,) = [x for x in lines if x.startswith(U) and "cfpi" in x]
    assert "5.0 ± 0.8*" in line and "IQM 5.0 [4.0, 6.0]" in line
    assert line.endswith("unfinished")
    (line,) = [x for x in lines if x.startswith("total") and " bc " in x]
    assert "22.0" in line and "2 datasets" in line
    assert any(x.startswith("unfinished: ") for x in lines)
    assert "\x1b" not in out.getvalue() and "…" not in out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_column_is_printed_at_every_width(built, width):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True)
    tables.write_terminal(built, console)
    text = out.getvalue()
    for expected in ("preset=small", "bc", "77.8", "2.0 ± 0.8", "22.0"):
        assert expected in text
    assert "…" not in text


def test_long_variants_are_broken_between_what_they_change(tmp_path):
    write_run(tmp_path, variants=("preset=demo,hidden_dims=(64,64),batch_size=32",))
    out = io.StringIO()
    console = Console(file=out, width=70, force_terminal=True, color_system=None)
    tables.write_terminal(board.build(store.read([tmp_path])), console)
    for part in ("preset=demo,", "hidden_dims=(64,64),", "batch_size=32"):
        assert part in out.getvalue()


def test_names_are_never_markup_on_the_terminal(tmp_path):
    write_run(tmp_path, "[red]bc[/red]", variants=("[link=x]",))
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    tables.write_terminal(board.build(store.read([tmp_path])), console)
    assert "[red]bc[/red]" in out.getvalue() and "[link=x]" in out.getvalue()


def test_many_notes_are_shortened_on_a_terminal_only(tmp_path):
    for i in range(30):
        write_run(tmp_path, f"m{i}", info={"status": "running"})
    built = board.build(store.read([tmp_path]))
    out = io.StringIO()
    tables.write_terminal(built, Console(file=out, width=100, force_terminal=True))
    assert out.getvalue().count("unfinished: ") == 13 and "18 more" in out.getvalue()
    assert sum(x.startswith("unfinished: ") for x in tables.plain_lines(built)) == 30


def test_csv_is_exact_and_complete(built):
    rows = list(csv.DictReader(io.StringIO(tables.csv_text(built))))
    assert len(rows) == 4
    by_key = {(row["method"], row["dataset"]): row for row in rows}
    row = by_key["cfpi", U]
    assert (row["variant"], row["source"], row["seeds"]) == (
        "preset=small", "measured", "3",
    )  # fmt: skip
    assert float(row["mean"]) == 5.0
    assert float(row["std"]) == pytest.approx(np.std([4, 5, 6]))
    assert row["marks"] == "unfinished" and row["best"] == "0"
    assert by_key["cfpi", M]["std"] == "" and by_key["cfpi", M]["iqm_low"] == ""


def test_markdown(built):
    text = tables.markdown(built)
    (line,) = [x for x in text.splitlines() if x.startswith(f"| {M}")]
    assert line == (f"| {M} | 20.0 ± 8.2<br><sub>20.0 [10.0, 30.0]</sub> | **77.8** |")
    assert "| **total** | 22.0 | 82.8 |" in text


def test_markdown_and_latex_escape_names(tmp_path):
    write_run(tmp_path, "<b>a|b_*c", variants=("k=50%&$#{}~^\\",))
    built = board.build(store.read([tmp_path]))
    text = tables.markdown(built)
    assert "<b>" not in text and r"&lt;b&gt;a\|b\_\*c" in text
    head = next(x for x in tables.latex(built).splitlines() if "Dataset" in x)
    assert r"<b>a|b\_*c" in head
    assert (
        r"k=50\%\&\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in head
    )


def test_latex_is_a_booktabs_table(built):
    text = tables.latex(built)
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrr}"):
        assert part in text
    assert rf"{M} & 20.0 $\pm$ 8.2 & \textbf{{77.8}} \\" in text
    assert rf"{U} & 2.0 $\pm$ 0.8 & 5.0 $\pm$ 0.8$^*$ \\" in text
    assert "–" not in text and "±" not in text


def test_table_for_make_run(tmp_path):
    write_run(tmp_path, "bc", U, seeds=range(3), scores=ends(1, 2, 3))
    assert "2.0 ± 0.8" in table(tmp_path)
