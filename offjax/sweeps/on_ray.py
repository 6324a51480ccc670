"""Jobs on a Ray cluster: resources per job, and another node when one dies.

All nodes must see the run store under the same path. A job whose node dies goes on
elsewhere from its last checkpoint; its worker process dies with the node's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offjax.errors import UserError
from offjax.runner import interrupts
from offjax.sweeps import engine, plan
from offjax.sweeps.engine import Outcome, Place, Report
from offjax.sweeps.plan import Job, Team

ANSWER_SECONDS = 180
"""How long a node may take to import the package, also when it is busy."""
POLL_SECONDS = 0.2


def connect(address: str | None) -> Any:
    """Joins the cluster at `address`, or starts one on this machine; the ray module.

    Raises:
      UserError: Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--engine=ray needs Ray; install it with `pip install 'offjax[ray]'`."
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(
                address=address,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # Ray raises what its transport raises
            raise UserError(
                f"no Ray cluster answers at {address or 'this machine'}: "
                f"{str(error)[:200]}. Start one with `ray start --head`, give its "
                "--ray_address, or use --engine=local."
            ) from error
    return ray


def run(
    jobs: Sequence[Job],
    place: Place,
    report: Report,
    address: str | None = None,
    max_parallel: int = 0,
    cpus: float = 1.0,
    gpus: float = 0.0,
    together: bool = False,
) -> dict[str, Outcome]:
    """Runs all jobs on the cluster; their outcomes by hash.

    Args:
      jobs: those that are not finished yet.
      place: where they write.
      report: told of changes.
      address: of a running cluster; None starts one here.
      max_parallel: jobs at once at most; 0 = as many as fit.
      cpus: CPUs that each job takes.
      gpus: GPUs that each job takes.
      together: as in `local.run`; a team counts as one job.

    Raises:
      UserError: no cluster, jobs that fit no node, or nodes with other code.
    """
    ray = connect(address)
    require_fit(ray, cpus, gpus)
    require_same_code(ray, place)
    work = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=place.retries)(_work)
    outcomes = {job.hash: Outcome("waiting") for job in jobs}
    waiting = plan.teams(jobs, together)
    running: dict[Any, tuple[Team, float]] = {}
    while waiting or running:
        while waiting and (not max_parallel or len(running) < max_parallel):
            team = waiting.pop(0)
            for job in team:
                outcomes[job.hash].status = "running"
                outcomes[job.hash].attempts += 1
            files = str(engine.job_file(team, place)), str(place.log(team[0]))
            reference = work.remote(*files, place.stall_seconds)
            running[reference] = team, time.monotonic()
        ended, _ = ray.wait(list(running), timeout=POLL_SECONDS)
        for reference in ended:
            team, begun = running.pop(reference)
            code = _result(ray, reference)
            seconds = time.monotonic() - begun
            if engine.judge_all(outcomes, code, team, place, seconds) == "waiting":
                waiting += [(job,) for job in team]
        report(outcomes)
        if interrupts.requested():
            _cancel(ray, running, outcomes)
            break
    return outcomes


def require_fit(ray: Any, cpus: float, gpus: float) -> None:
    """Raises `UserError` where no node of the cluster could ever take a job."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = [n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in nodes]
    if not any(fits):
        have = ", ".join(f"{n.get('CPU', 0):g}/{n.get('GPU', 0):g}" for n in nodes)
        raise UserError(
            f"a job asks for {cpus:g} CPUs and {gpus:g} GPUs, and the cluster's nodes "
            f"have {have} (CPUs/GPUs). Lower --cpus_per_job and --gpus_per_job, or "
            "add a node."
        )


def require_same_code(ray: Any, place: Place) -> None:
    """Raises `UserError` where a node has other code or versions, or no run store."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = ray.remote(num_cpus=0)(_probe)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    place.folder.mkdir(parents=True, exist_ok=True)
    here = engine.code_identity()
    for node in nodes:
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        reference = probe.options(scheduling_strategy=strategy).remote(
            str(place.folder)
        )
        name = node["NodeManagerAddress"]
        try:
            sees, there = ray.get(reference, timeout=ANSWER_SECONDS)
        except Exception as error:  # Ray wraps whatever the node's Python raised
            raise UserError(
                f"node {name} cannot run offjax: {str(error)[-300:]}"
            ) from error
        if not sees:
            raise UserError(
                f"node {name} does not see {place.folder}; --runs_dir has to be a "
                "folder that all nodes share."
            )
        if there != here:
            raise UserError(
                f"node {name} has other code or versions ({there}) than this machine "
                f"({here}); install the same everywhere."
            )


def _probe(folder: str) -> tuple[bool, dict[str, Any]]:
    return Path(folder).is_dir(), engine.code_identity()


def _work(path: str, log: str, stall_seconds: float) -> int:
    """On a node: carries a job out in a process of its own; the exit code."""
    process = engine.start(Path(path), Path(log))
    return engine.wait(process, Path(log), stall_seconds)


def _result(ray: Any, reference: Any) -> int:
    """Exit code of a job; -9 where its node died more often than is retried."""
    try:
        return ray.get(reference)
    except (ray.exceptions.RayError, ray.exceptions.RayTaskError):
        return -9


def _cancel(
    ray: Any, running: dict[Any, tuple[Team, float]], outcomes: dict[str, Outcome]
) -> None:
    for reference, (team, _) in running.items():
        ray.cancel(reference, force=True)
        for job in team:
            outcomes[job.hash].status = "interrupted"
