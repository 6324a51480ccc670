"""The local engine with workers that only pretend."""

import json
import os
import subprocess
import sys

import pytest

from offjax.errors import UserError
from offjax.sweeps import engine, local, plan
from offjax.sweeps.engine import Outcome, Place
from offjax.sweeps.plan import Job


def job(name, priority=0.0):
    return Job(name * 16, name, "d", "demo", {}, {}, (name,), priority)


@pytest.fixture
def pretend(monkeypatch):
    """Workers run the Python of `scripts[method]`; `begun` lists their methods."""
    scripts, begun = {}, []

    def start(path, log, env=None):
        jobs = json.loads(path.read_text())["jobs"]
        method = "+".join(job["method"] for job in jobs)
        begun.append((method, None if env is None else env["CUDA_VISIBLE_DEVICES"]))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-c", scripts.get(method, "")], stdout=out, stderr=out
            )

    monkeypatch.setattr(engine, "start", start)
    return scripts, begun


def run(jobs, tmp_path, *args, **kwargs):
    place = Place(str(tmp_path), "s", **kwargs)
    return local.run(jobs, place, lambda outcomes: None, *args)


def test_jobs_run_by_priority_and_finish(pretend, tmp_path):
    _, begun = pretend
    jobs = [job("a"), job("b", 1.0), job("c")]
    outcomes = run(jobs, tmp_path)
    assert [name for name, _ in begun] == ["b", "a", "c"]
    assert {(o.status, o.attempts) for o in outcomes.values()} == {("finished", 1)}


def test_a_death_is_retried_and_bad_input_is_not(pretend, tmp_path):
    scripts, begun = pretend
    flag = tmp_path / "second"
    scripts["a"] = (
        f"import os, pathlib; p = pathlib.Path({str(flag)!r})\n"
        "p.exists() or (p.touch(), os.kill(os.getpid(), 9))"
    )
    scripts["b"] = "import sys; print('error: no such thing'); sys.exit(2)"
    scripts["c"] = "raise RuntimeError('always')"
    outcomes = run([job("a"), job("b"), job("c")], tmp_path, retries=1)
    assert (outcomes["a" * 16].status, outcomes["a" * 16].attempts) == ("finished", 2)
    bad = outcomes["b" * 16]
    assert (bad.status, bad.attempts) == ("failed", 1)
    assert bad.reason == "error: no such thing"
    broken = outcomes["c" * 16]
    assert (broken.status, broken.attempts) == ("failed", 2)
    assert "always" in broken.reason
    assert len(begun) == 5


def test_parallel_jobs_are_limited_and_get_a_gpu_each(pretend, tmp_path):
    scripts, begun = pretend
    most = tmp_path / "most"
    for name in "abcd":
        scripts[name] = (
            "import os, pathlib, time\n"
            f"p = pathlib.Path({str(tmp_path)!r}) / '{name}.on'; p.touch()\n"
            "time.sleep(0.3)\n"
            "n = len(list(p.parent.glob('*.on')))\n"
            f"open({str(most)!r}, 'a').write(f'{{n}}\\n'); p.unlink()"
        )
    run([job(n) for n in "abcd"], tmp_path, 2, ["4", "5"])
    assert max(int(n) for n in most.read_text().split()) == 2
    assert {gpu for _, gpu in begun} == {"4", "5"}
    with pytest.raises(UserError, match="GPU each"):
        run([job("a")], tmp_path, 3, ["0"])
    with pytest.raises(UserError, match="max_parallel=0"):
        run([job("a")], tmp_path, 0)


def test_a_silent_job_is_killed(pretend, tmp_path):
    scripts, _ = pretend
    scripts["a"] = "import time; print('here', flush=True); time.sleep(60)"
    outcomes = run([job("a")], tmp_path, retries=0, stall_seconds=0.5)
    assert outcomes["a" * 16].status == "failed"
    assert outcomes["a" * 16].reason == "killed by signal 9"


def test_a_stopped_sweep_asks_its_jobs_once(pretend, tmp_path, monkeypatch):
    scripts, begun = pretend
    ready, asked = tmp_path / "ready", tmp_path / "asked"
    scripts["a"] = (
        "import pathlib, signal, sys, time\n"
        f"asked, ready = pathlib.Path({str(asked)!r}), pathlib.Path({str(ready)!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: asked.open('a').write('x'))\n"
        "ready.touch(); end = time.time() + 20\n"
        "while time.time() < end and not asked.exists(): time.sleep(0.01)\n"
        "time.sleep(0.5); sys.exit(143)"
    )
    monkeypatch.setattr(local.interrupts, "requested", ready.exists)
    outcomes = run([job("a"), job("b")], tmp_path)
    assert asked.read_text() == "x"
    assert outcomes["a" * 16].status == "interrupted"
    assert outcomes["b" * 16].status == "waiting"
    assert [name for name, _ in begun] == ["a"]


def test_an_old_log_is_not_the_silence_of_a_new_attempt(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("said long ago")
    os.utime(log, (1, 1))
    assert engine.stalled(log, 10.0)
    process = engine.start(tmp_path / "missing.json", log)
    assert not engine.stalled(log, 10.0)
    process.kill()
    process.wait()


def test_judge():
    place = Place("runs", "s", retries=1)
    tried = Outcome("running", attempts=1)
    assert engine.judge(tried, 0, job("a"), place, 1.0).status == "finished"
    for code in (143, 130):
        judged = engine.judge(tried, code, job("a"), place, 1.0)
        assert judged.status == "interrupted"
    assert engine.judge(tried, -9, job("a"), place, 1.0).status == "waiting"
    assert engine.judge(tried, 2, job("a"), place, 1.0).status == "failed"
    twice = Outcome("running", attempts=2)
    assert engine.judge(twice, -9, job("a"), place, 1.0).status == "failed"


def test_ctrl_c_does_not_reach_the_workers(tmp_path):
    process = engine.start(tmp_path / "missing.json", tmp_path / "log")
    try:
        assert os.getpgid(process.pid) != os.getpgid(0)
    finally:
        process.wait()


def alike(name, dataset, shape=(3, 1)):
    return Job(f"{name}{dataset}" * 8, name, dataset, "demo", {}, {}, ("",), 0.0, shape)


def test_jobs_that_differ_in_the_dataset_are_a_team(pretend, tmp_path):
    scripts, begun = pretend
    scripts["a+a"] = "print('both')"
    jobs = [alike("a", "x"), alike("b", "x"), alike("a", "y"), alike("a", "z", (4, 1))]
    outcomes = run(jobs, tmp_path, 1, (), True)
    assert [name for name, _ in begun] == ["a+a", "b", "a"]
    assert {(o.status, o.attempts) for o in outcomes.values()} == {("finished", 1)}
    place = Place(str(tmp_path), "s")
    assert place.log(jobs[0]).read_text() == place.log(jobs[2]).read_text() == "both\n"
    begun.clear()
    run(jobs, tmp_path)
    assert [name for name, _ in begun] == ["a", "b", "a", "a"]


def test_a_team_that_fails_is_tried_again_one_by_one(pretend, tmp_path):
    scripts, begun = pretend
    scripts["a+a"] = "import sys; print('error: no such thing'); sys.exit(2)"
    jobs = [alike("a", "x"), alike("a", "y")]
    outcomes = run(jobs, tmp_path, 1, (), True)
    assert [name for name, _ in begun] == ["a+a", "a", "a"]
    assert {(o.status, o.attempts) for o in outcomes.values()} == {("finished", 2)}


def test_jobs_without_a_known_shape_are_alone():
    jobs = [alike("a", "x", (0, 0)), alike("a", "y", (0, 0))]
    assert plan.teams(jobs, together=True) == [(jobs[0],), (jobs[1],)]
