"""Run folders: whole files, rows that are cut back, and advice when a disk fails."""

import json
import re

import pytest

from offjax.errors import UserError
from offjax.runner import records
from offjax.runner.records import RunFolder, find_runs


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "runs", "bc", "a/b-v0", "0123456789")


def metrics(folder):
    return (folder.path / "metrics.csv").read_text().splitlines()


def test_a_new_folder_has_the_headers(folder, tmp_path):
    assert folder.path.parent == tmp_path / "runs" / "bc" / "a" / "b-v0"
    assert re.fullmatch(r"\d{8}-\d{6}-01234567", folder.path.name)
    assert metrics(folder) == ["step,seed,variant,name,value"]
    scores = (folder.path / "scores.csv").read_text()
    assert scores == (
        "method,variant,dataset,seed,step,episodes,return_mean,return_std,score\n"
    )
    episodes = (folder.path / "episodes.csv").read_text()
    assert episodes == "variant,seed,step,episode,return,length\n"


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path):
    made = {RunFolder.create(tmp_path, "bc", "d", "ab").path for _ in range(3)}
    assert len(made) == 3


def test_rows_are_quoted_where_they_need_it(folder):
    folder.append(
        "metrics.csv", [(1, 0, "lr=1,k=2", "loss", "0.5"), (2, 0, "a", "b", 1)]
    )
    assert metrics(folder)[1:] == ['1,0,"lr=1,k=2",loss,0.5', "2,0,a,b,1"]


@pytest.mark.parametrize("tail", ["3", "3,1,a,lo", '3,1,"a', "2,1,a,loss,0.12"])
def test_cutting_back_drops_later_rows_and_a_half_written_line(folder, tail):
    rows = [(step, 0, "lr=1,k=2", "loss", 0.5) for step in (1, 2, 10, 3)]
    folder.append("metrics.csv", rows)
    with (folder.path / "metrics.csv").open("a") as file:
        file.write(tail)  # a last line without its end
    folder.append(
        "scores.csv", [("bc", "x", "d", 0, step, 1, 1, 0, 2) for step in (2, 4)]
    )
    folder.cut_back(2)
    assert metrics(folder)[1:] == [f'{s},0,"lr=1,k=2",loss,0.5' for s in (1, 2)]
    assert (folder.path / "scores.csv").read_text().splitlines()[1:] == [
        "bc,x,d,0,2,1,1,0,2"
    ]
    folder.append("metrics.csv", [(3, 0, "v", "loss", 1)])
    assert metrics(folder)[-1] == "3,0,v,loss,1"
    folder.cut_back(0)
    assert len(metrics(folder)) == 1


def test_cutting_back_restores_a_header_that_was_half_written(folder):
    (folder.path / "metrics.csv").write_text("step,se")
    (folder.path / "episodes.csv").unlink()
    folder.cut_back(5)
    assert metrics(folder) == ["step,seed,variant,name,value"]
    assert (folder.path / "episodes.csv").read_text().startswith("variant,seed,")


def test_rewriting_replaces_every_row(folder):
    folder.append("metrics.csv", [(1, 0, "v", "loss", 1)])
    folder.rewrite("metrics.csv", [(7, 0, "a,b", "loss", 2)])
    assert metrics(folder) == ["step,seed,variant,name,value", '7,0,"a,b",loss,2']
    assert not [p for p in folder.path.iterdir() if p.name.startswith(".")]


def test_json_is_replaced_whole(folder):
    path = folder.path / "run.json"
    records.write_json(path, {"status": "failed"})
    with pytest.raises(TypeError):
        records.write_json(path, {"status": object()})
    assert folder.record == {"status": "failed"}
    assert not [p for p in folder.path.iterdir() if p.name.startswith(".")]


def test_a_full_disk_is_told(folder):
    scores = folder.path / "scores.csv"
    scores.unlink()
    scores.symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left on device") as error:
        folder.append("scores.csv", [("bc", "v", "d", 0, 1, 1, 1, 0, 1)])
    assert str(folder.path) in str(error.value) and "--resume" in str(error.value)


def test_what_is_no_run_is_told(folder, tmp_path):
    with pytest.raises(UserError, match="is not a run"):
        RunFolder(tmp_path).record  # noqa: B018
    (folder.path / "run.json").write_text('{"status": "run')
    with pytest.raises(UserError, match=r"run\.json cannot be read"):
        folder.record  # noqa: B018


def test_runs_are_found_newest_first_and_only_with_a_record(tmp_path):
    made = [RunFolder.create(tmp_path, "bc", "d/x-v0", "ab") for _ in range(3)]
    for folder in (made[0], made[2]):
        records.write_json(folder.path / "run.json", {})
    assert find_runs(tmp_path, "bc", "d/x-v0") == [made[2], made[0]]
    assert find_runs(tmp_path, "asp", "d/x-v0") == []


def test_digests_see_values_and_not_the_order_of_keys():
    one = records.digest({"a": 1, "b": [1, 2]})
    assert one == records.digest({"b": (1, 2), "a": 1})
    assert one != records.digest({"a": 1, "b": [2, 1]})
    assert re.fullmatch("[0-9a-f]{64}", one)


def test_the_environment_is_recorded():
    import jax

    found = records.environment()
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["python"].startswith("3.")
    assert json.dumps(found)
