import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.leaderboard import board, reported, store
from offjax.leaderboard.board import Column

SOURCES = {source.id: source for source in reported.load()}
TABLES = [table for source in SOURCES.values() for table in source.tables]


def find(source, key):
    return next(t for t in SOURCES[source].tables if t.id == key)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: f"{t.source}-{t.id}")
def test_printed_totals_follow_from_their_rows_or_an_erratum_says_so(table):
    wrong = {}
    for row, facts in table.totals.items():
        parts = [r for r in table.rows if r not in table.totals]
        for method in table.methods:
            printed = table.values[row, method].text
            if not printed:
                continue
            of = facts.get("of") or [""]
            values = [
                float(table.values[part, method].text)
                for part in parts
                if any(part.startswith(prefix) for prefix in of)
            ]
            n = len(values)
            # Every part may be off by half its last digit, and so may the total.
            divisor, slack = {
                "sum": (1, 0.05 * (n + 1)),
                "mean": (n, 0.01),
                "sum/100": (100, 0.05 * n / 100 + 0.005),
            }[facts["rule"]]
            if abs(sum(values) / divisor - float(printed)) > slack + 1e-9:
                wrong[row, method] = sum(values) / divisor
    assert {(e.row, e.method) for e in table.errata} == set(wrong)
    for erratum in table.errata:
        value = wrong[erratum.row, erratum.method]
        assert erratum.computed == pytest.approx(value, abs=0.006)


def test_every_number_has_a_source_and_a_protocol():
    assert set(SOURCES) == {"corl", "cfpi", "lcd", "action_gradient", "asp"}
    for source in SOURCES.values():
        assert source.title and source.url.startswith("https://")
    for table in TABLES:
        assert table.caption and table.protocol and table.checkpoint
        assert table.rows and table.methods


def test_what_could_not_be_recovered_is_said():
    assert SOURCES["asp"].tables == [] and "images" in SOURCES["asp"].notes[0]


def test_some_numbers_as_printed():
    value = find("cfpi", "3.1").values["hopper-medium-expert-v2", "I_MG"]
    assert (value.mean, value.std) == (104.2, 5.1)
    assert find("corl", "last").values["walker2d-medium-v2", "IQL"].mean == 80.91
    assert find("corl", "best").values["pen-human-v1", "BC"].mean > 0
    value = find("lcd", "4.1").values["Five", "LCD"]
    assert (value.text, value.std_text) == ("32.2", "5.2")
    assert find("lcd", "4.3").values["model_size_params", "HULC"].text == "47.1M"
    assert sum(len(t.values) for t in TABLES) > 1400


def test_dataset_versions_complete_the_printed_ids():
    table = find("action_gradient", "1")
    assert table.dataset("maze2d-large") == "maze2d-large-v1"
    assert table.dataset("hopper-medium") == "hopper-medium-v2"
    assert table.dataset("gym-total") == "gym-total"


@pytest.fixture
def built(tmp_path):
    for dataset in ("hopper-medium-v2", "walker2d-medium-v2"):
        write_run(tmp_path, "iql", dataset, seeds=(0, 1), scores=np.ones((2, 1)))
    write_run(tmp_path, "iql", "offjax/hopper/medium-v0", seeds=(0, 1))
    return board.build(store.read([tmp_path]))


def test_reported_numbers_stand_beside_and_take_no_part(built):
    ours, theirs = Column("iql"), Column("IQL", source="CORL last")
    shown = reported.beside(built, reported.load())
    group = next(g for g in shown.groups if g.name == "d4rl/gym")
    assert group.cells["hopper-medium-v2", theirs].mean == 67.53
    assert not any(cell.best for cell in group.cells.values())
    assert np.isnan(group.totals[theirs].total)
    assert group.totals[ours].total == pytest.approx(2.0)
    # What this repository collected is another dataset, whatever its name.
    own = next(g for g in shown.groups if g.name == "offjax/gym")
    assert own.columns == [ours]


def test_copied_columns_and_best_checkpoints_are_not_repeated(built):
    shown = reported.beside(built, reported.load())
    sources = {(c.method, c.source) for g in shown.groups for c in g.columns}
    assert ("IQL", "CFPI 3.1") not in sources and ("DT", "AG 1") not in sources
    assert ("I_MG", "CFPI 3.1") in sources and ("RF+AG", "AG 1") in sources
    assert not any(source == "CORL best" for _, source in sources)


def test_reported_numbers_are_ranked_only_when_asked(built):
    shown = reported.beside(built, reported.load(), ranked=True)
    group = next(g for g in shown.groups if g.name == "d4rl/gym")
    best = [column for (_, column), cell in group.cells.items() if cell.best]
    assert best and all(column.source for column in best)
    theirs = Column("IQL", source="CORL last")
    assert group.totals[theirs].total == pytest.approx(67.53 + 80.91)
    assert group.totals[theirs].metrics == {}
