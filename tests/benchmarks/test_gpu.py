"""The report of an accelerator: what is measured, kept, left out and refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from benchmarks import gpu, gpu_jobs, gpu_tables, processes
from offjax.errors import UserError

MACHINE = {
    "device": "cpu", "platform": "cpu", "devices": 2, "versions": {}, "commit": "a",
}  # fmt: skip


def call(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--tiny", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def test_what_a_half_written_report_lacks_is_measured(tmp_path):
    path = tmp_path / "gpu.json"
    arguments = f"--json={path}", "--sections=training,column"
    first = call(*arguments, "--algorithms=bc,asp", "--minutes=0")
    assert first.returncode == 0, first.stderr[-2000:]
    report = json.loads(path.read_text())
    left = ["column of td3_bc", "training of asp", "training of bc"]
    assert report["left out"] == left and "training" not in report
    assert "Left out, for want of time: " + "; ".join(left) in first.stdout

    done = {"rate": {"median": 123456.0}, "share of peak": None, "compile seconds": 1.0}
    report["training"] = {"bc": {"1": done, "2": done}}
    report["column"] = {"td3_bc": {
        "together": done, "in turn": done, "minutes for 1M steps, together": 1.0,
        "minutes for 1M steps, in turn": 9.0,
    }}  # fmt: skip
    path.write_text(json.dumps(report))
    second = call(*arguments, "--algorithms=bc,asp")
    assert second.returncode == 0, second.stderr[-2000:]
    found = json.loads(path.read_text())
    assert found["left out"] == [] and found["failed"] == {}
    assert found["training"]["bc"] == report["training"]["bc"]
    assert list(found["training"]["asp"]) == ["1", "2"]
    for cell in found["training"]["asp"].values():
        assert cell["rate"]["median"] > 0 and cell["share of peak"] > 0
        assert cell["compile seconds"] > 0 and cell["layout"] == "map"
    assert "CPU numbers: there is no accelerator here." in second.stdout
    assert "123,456" in second.stdout and "asp" in second.stdout


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--sections=speed", "there is no such section: training, column"),
        ("--algorithms=sac", "there is no such stage here"),
        ("--projects=jax_corl", "use NAME:FOLDER"),
        ("--minutes=-1", "minutes"),
    ],
)
def test_a_bad_flag_is_refused(tmp_path, flag, message):
    done = call(flag, f"--json={tmp_path / 'gpu.json'}")
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "gpu.json").exists()


def test_results_of_different_machines_are_kept_apart(tmp_path):
    path = str(tmp_path / "gpu.json")
    job = gpu_jobs.Job("training", "bc")
    gpu.Report(path, fresh=False, machine=MACHINE, tiny=True).add(job, {"1": 2.0})
    again = gpu.Report(path, fresh=False, machine=MACHINE | {"load": 3}, tiny=True)
    assert again.has(job)
    other = MACHINE | {"device": "NVIDIA H200"}
    with pytest.raises(UserError, match="with device cpu, now it is NVIDIA H200"):
        gpu.Report(path, fresh=False, machine=other, tiny=True)
    with pytest.raises(UserError, match="with tiny True, now it is False"):
        gpu.Report(path, fresh=False, machine=MACHINE, tiny=False)
    assert not gpu.Report(path, fresh=True, machine=other, tiny=True).has(job)
    (tmp_path / "gpu.json").write_text("{")
    with pytest.raises(UserError, match=r"is no report of this script. Use --fresh"):
        gpu.Report(path, fresh=False, machine=MACHINE, tiny=True)


def test_a_failure_and_a_lack_of_time_are_told_and_tried_again(tmp_path):
    path = str(tmp_path / "gpu.json")
    jobs = [gpu_jobs.Job("training", name) for name in ("bc", "iql")]
    report = gpu.Report(path, fresh=False, machine=MACHINE, tiny=False)
    report.add(jobs[0], UserError("out of memory"))
    report.add(jobs[1], processes.LateError("no time is left"))
    text = gpu_tables.text(json.loads((tmp_path / "gpu.json").read_text()))
    assert "Failed: training of bc: out of memory" in text
    assert "Left out, for want of time: training of iql." in text
    again = gpu.Report(path, fresh=False, machine=MACHINE, tiny=False)
    assert not any(again.has(job) for job in jobs)
    assert again.content["failed"] == {} and again.content["left out"] == []


def test_large_stages_and_peers_share_the_device_with_no_other():
    step = gpu_jobs.Step({})
    small = [gpu_jobs.Job("training", name, (step,)) for name in "abc"]
    three = gpu_jobs.Job("resume", "d", (step,) * 3)
    large = gpu_jobs.Job("training", "lcd:hulc", (step,))
    peer = gpu_jobs.Job("peers", "e", peer=("python",))
    jobs = [*small, three, large, peer, small[0]]
    names = [[job.name for job in batch] for batch in gpu.batches(jobs, workers=2)]
    assert names == [["a", "b"], ["c"], ["d"], ["lcd:hulc", "e"], ["a"]]


@pytest.mark.parametrize("sizes", [gpu_jobs.Sizes(), gpu_jobs.TINY])
def test_the_plan_begins_with_the_goals_and_has_every_stage(sizes):
    stages = list(gpu_jobs.STAGES)
    peers = {"td3_bc": {"jax_corl": ["python"]}, "iql": {}}
    jobs = gpu_jobs.plan(gpu_jobs.SECTIONS, stages, sizes, "runs", peers)
    assert [job.name for job in jobs[:2]] == ["td3_bc", "iql"]
    assert {job.section for job in jobs} == set(gpu_jobs.SECTIONS)
    trained = [job.name for job in jobs if job.section == "training"]
    assert sorted(trained) == sorted(stages)
    assert len({(job.section, job.name) for job in jobs}) == len(jobs)
