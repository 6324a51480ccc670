"""From runs to the chapter's curves and to the comparison's tables."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from experiments.cfpi import curves
from offjax.cli import report
from offjax.errors import UserError
from offjax.leaderboard import board, store

BC = np.array([[10.0], [30.0], [20.0]])
GAINS = np.array([[1.0], [2.0], [6.0]])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """bc_mixture, cfpi at its default log τ = 0.5, at 1 and at 2, and an operator."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root, "bc_mixture", variants=["preset=small"], scores=BC)
    ids = ("20250101-000000-0000000a", "20250101-000000-0000000b")
    write_run(root, "cfpi", run_id=ids[0], variants=["preset=small"], scores=BC + GAINS)
    write_run(
        root,
        "cfpi",
        run_id=ids[1],
        variants=["preset=small,log_tau=2", "preset=small,log_tau=1"],
        scores=BC - 5.0,
    )
    write_run(root, "ebcq", variants=["preset=small,n=2", "preset=small"], scores=BC)
    return root


def test_points_of_a_setting_are_ordered_and_know_their_default(runs):
    built = board.build(store.read([runs]))
    found = curves.points(built, "log_tau", ["bc_mixture"])
    assert [(p.method, p.value) for p in found[1:]] == [
        ("cfpi", 0.5),
        ("cfpi", 1.0),
        ("cfpi", 2.0),
    ]
    assert found[0].method == "bc_mixture" and np.isnan(found[0].value)
    assert found[1].estimate.value == pytest.approx(23.0)  # mean of 11, 32, 26
    assert 11 <= found[1].estimate.low < 23 < found[1].estimate.high <= 32
    found = curves.points(built, "n")
    assert [(p.method, p.value) for p in found] == [("ebcq", 2.0), ("ebcq", 10.0)]
    with pytest.raises(UserError, match="two values of weight_threshold"):
        curves.points(built, "weight_threshold")


def test_default_of_another_operator_is_its_own():
    variant = "preset=small,improve=best_of_n"
    assert curves.unnamed_value("cfpi", variant, "n") == 10
    assert curves.unnamed_value("cfpi", variant, "log_tau") is None


def test_a_panel_holds_curves_and_baselines(runs):
    drawn = []

    def note(name):
        return lambda *args, **kwargs: drawn.append((name, *args))

    names = ("plot", "fill_between", "axhline", "axhspan", "set", "set_xscale")
    axis = SimpleNamespace(**{name: note(name) for name in names})
    built = board.build(store.read([runs]))
    curves.draw(axis, curves.points(built, "log_tau", ["bc_mixture"]), "log_tau")
    by_name = {name: args for name, *args in drawn}
    np.testing.assert_allclose(by_name["plot"][0], [0.5, 1.0, 2.0])
    np.testing.assert_allclose(by_name["plot"][1], [23.0, 15.0, 15.0])
    assert by_name["axhline"][0] == pytest.approx(20.0)
    assert "set_xscale" not in by_name


def test_commands_write_figure_numbers_and_tables(experiment, runs, tmp_path):
    out = tmp_path / "a" / "figure.png"
    done = experiment("cfpi.curves", f"--runs_dir={runs}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert "log_tau=0.5  23.0 [" in done.stdout
    assert out.read_bytes().startswith(b"\x89PNG")
    with out.with_suffix(".csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [r["value"] for r in rows] == ["0.5", "1", "2"]
    assert rows[0]["mean"] == "23" and rows[0]["seeds"] == "3"
    done = experiment("report", f"--runs_dir={runs}", "--methods=bc*,cfpi")
    assert done.returncode == 0, done.stderr
    assert "| cfpi (preset=small) | 23.0 ± 8.8 [" in done.stdout


def test_gains_are_paired_by_seed(runs):
    built = board.build(store.read([runs]))
    cells = report.cells_of(built)
    default = board.Column("cfpi", "preset=small")
    (dataset,) = {d for d, _ in cells}
    np.testing.assert_allclose(report.difference(cells, dataset, default), GAINS[:, 0])
    other = board.Column("cfpi", "preset=small,log_tau=2")
    np.testing.assert_allclose(report.difference(cells, dataset, other), -5.0)
    nobody = board.Column("ebcq", "preset=small")  # bc_gaussian has no run
    assert report.difference(cells, dataset, nobody) is None
    lines = list(report.markdown(built))
    assert lines[2].startswith("| bc_mixture (preset=small) | 20.0 ± 8.2 [")
    gain = next(line for line in lines if "cfpi (preset=small) − bc_mixture" in line)
    assert "| 3.0 [1.0, 6.0] |" in gain
    methods = [line.split(" ")[1] for line in lines[2:7]]
    assert methods == ["bc_mixture", "ebcq", "ebcq", "cfpi", "cfpi"]


def test_every_operator_of_the_comparison_has_its_policy():
    assert {"cfpi", "cfpi_sg", "iql_cfpi", "cql_cfpi"} <= report.IMPROVES.keys()
    named = {*report.IMPROVES, *report.IMPROVES.values(), *report.COMPARISON}
    from offjax.methods import METHODS

    assert named <= METHODS.keys()


def test_an_operator_is_compared_at_the_same_settings():
    def column(method, *settings):
        return board.Column(method, ",".join(settings) or "default")

    plain = [
        column("bc_mixture", "preset=small"),
        column("bc_mixture", "preset=small", "num_steps=5"),
        column("bc_mixture", "preset=small", "num_steps=9"),
        column("bc_mixture", "preset=demo"),
        column("bc_gaussian", "preset=small", "num_steps=5", "log_tau=2"),
    ]
    cells = {("d", c): None for c in plain} | {("e", column("bc_mixture")): None}
    small = ("preset=small", "num_steps=5", "sarsa.num_steps=7", "log_tau=2")
    assert report.without_operator(cells, "d", column("cfpi", *small)) == plain[1]
    assert report.without_operator(cells, "d", column("cfpi", *small[:1])) == plain[0]
    assert report.without_operator(cells, "d", column("cfpi")) is None
    other = column("cfpi", "preset=small", "num_components=8")
    assert report.without_operator(cells, "d", other) == plain[0]
    found = report.without_operator(cells, "e", column("cfpi", "log_tau=2"))
    assert found == column("bc_mixture")


def test_more_datasets_than_methods_are_rows(tmp_path):
    for name in ("offjax/a-v0", "offjax/b-v0"):
        write_run(tmp_path, "bc", name, seeds=(0,), scores=np.array([[10.0]]))
    built = board.build(store.read([tmp_path]))
    head, _, first, second, *_ = report.markdown(built)
    assert head == "| dataset | bc |"
    assert first.startswith("| a-v0 | 10") and second.startswith("| b-v0 | 10")


def test_returns_are_marked_and_never_compared_with_scores(tmp_path):
    unknown, both = "mine/unknown-v0", "mine/both-v0"
    for method, dataset, returns in (
        ("bc_mixture", "mine/scored-v0", False),
        ("bc_mixture", unknown, True), ("cfpi", unknown, True),
        ("bc_mixture", both, False), ("cfpi", both, True),
    ):  # fmt: skip
        scores = np.array([[10.0], [20.0]]) + 5.0 * (method == "cfpi")
        run = write_run(tmp_path, method, dataset, seeds=(0, 1), scores=scores)
        if returns:
            path = run / "scores.csv"
            head, *rows = path.read_text().splitlines()
            rows = [row.rsplit(",", 1)[0] + ",nan" for row in rows]
            path.write_text("\n".join([head, *rows]) + "\n")
    lines = list(report.markdown(board.build(store.read([tmp_path]))))
    assert lines[0] == "| dataset | bc_mixture | cfpi |"
    bc, cfpi = "15.0 ± 5.0 [10.0, 20.0]", "20.0 ± 5.0 [15.0, 25.0]"
    assert lines[2:5] == [
        f"| mine/both-v0 | {bc} | return {cfpi} |",
        f"| mine/scored-v0 | {bc} | – |",
        f"| mine/unknown-v0 | return {bc} | return {cfpi} |",
    ]
    assert lines[-1] == "| cfpi − bc_mixture | – | – | return 5.0 [5.0, 5.0] |"
