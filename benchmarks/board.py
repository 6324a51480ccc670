"""Sizes and times of a full benchmark's page in a headless Chromium.

    python -m benchmarks.board [--methods=40] [--datasets=40] [--json=FILE]

writes synthetic runs (5 seeds, 5 evaluations of 20 episodes), renders their page, and
prints its megabytes, the seconds until it is loaded and laid out, and those of sorting
the matrix by a row and a domain's table by a column.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.leaderboard import learning_curves, write_run
from offjax.cli import command as cli
from offjax.errors import UserError
from offjax.leaderboard import page, reported, screenshot, store

DOMAINS = (
    "maze2d",
    "hopper",
    "walker2d",
    "halfcheetah",
    "antmaze",
    "budget",
    "kitchen",
)
KINDS = ("random", "medium", "medium-replay", "medium-expert", "expert", "mixed")
METHODS = (
    "bc", "percent_bc", "td3_bc", "rebrac", "iql", "fql", "cql", "awac", "bcq", "cfpi",
    "cfpi_sg", "iterative_cfpi", "iql_cfpi", "asp", "asp_k1", "asp_listing",
    "decision_transformer", "dt_ag", "reinformer", "reinformer_ag",
)  # fmt: skip
OPENED = """
const [entry] = performance.getEntriesByType("navigation");
return entry.loadEventEnd / 1000;
"""
SEEN = """
document.querySelector(arguments[0]).scrollIntoView();
document.querySelector(arguments[0]).getBoundingClientRect();
"""
SORT = """
const button = document.querySelector(arguments[0]);
const begin = performance.now();
button.click();
document.body.getBoundingClientRect();
return (performance.now() - begin) / 1000;
"""


def write_board(
    root: Path, methods: int, datasets: int, seeds: int = 5, filled: float = 1.0
) -> None:
    """Writes runs of the first methods on the first datasets.

    Args:
      root: folder of the runs.
      methods: number of them; those above twenty are variations.
      datasets: number of them.
      seeds: of each run.
      filled: share of the runs that are written.
    """
    rng = np.random.default_rng(0)
    kinds = -(-datasets // len(DOMAINS))
    ids = [f"offjax/{d}/{k}-v1" for d in DOMAINS for k in KINDS[:kinds]][:datasets]
    for i in range(methods):
        name = METHODS[i % len(METHODS)] + ("_again" if i >= len(METHODS) else "")
        strength = rng.normal(0, 15)
        for j, dataset in enumerate(ids):
            if rng.random() > filled:
                continue
            level = 20 + 70 * ((j * 7) % 10) / 10 + strength + rng.normal(0, 8)
            write_run(
                root, name, dataset, seeds=range(seeds), variants=("preset=small",),
                scores=learning_curves(seeds, 5, rng, max(level, 0)),
                config={"eval_seed": 0, "preset": "small"}, eval_every=20_000,
            )  # fmt: skip


def in_browser(path: Path) -> dict[str, dict[str, float]]:
    """Seconds that a page takes to open and to sort.

    Returns:
      What → `wall`, and `busy`: of the page's main thread, which does not depend on
      what else the machine does.

    Raises:
      UserError: Chromium or its driver is missing.
    """
    from selenium import webdriver

    browser, driver = screenshot.find_browser(), shutil.which("chromedriver")
    if not browser or not driver:
        raise UserError("Chromium is needed: apt-get install chromium chromium-driver.")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*screenshot.FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
        opened.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

        def busy() -> float:
            found = opened.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
            return next(m["value"] for m in found if m["name"] == "TaskDuration")

        try:
            opened.get(path.resolve().as_uri())  # in a new process, which counts from 0
            wall = opened.execute_script(OPENED)
            seconds = {"open": {"wall": wall, "busy": busy()}}
            heads = {"matrix": ".iqm .across", "table": ".board thead .sort"}
            for name, head in heads.items():
                opened.execute_script(SEEN, head)  # what was never seen has no layout
                begin = busy()
                wall = opened.execute_script(SORT, head)
                seconds[f"sort {name}"] = {"wall": wall, "busy": busy() - begin}
        finally:
            opened.quit()
    return seconds


def main(argv: list[str]) -> None:
    """Prints all measurements, and writes them."""
    del argv
    from benchmarks.harness import opening, write

    result: dict[str, Any] = {"machine": opening()}
    with tempfile.TemporaryDirectory() as folder:
        root, path = Path(folder) / "runs", Path(folder) / "page.html"
        write_board(root, flags.FLAGS.methods, flags.FLAGS.datasets)
        begin = time.perf_counter()
        page.write(path, page.render(store.read([root]), reported.load()))
        result["render_seconds"] = time.perf_counter() - begin
        result["page_megabytes"] = path.stat().st_size / 1e6
        result["browser_seconds"] = in_browser(path)
    for name, value in result.items():
        if name != "machine":
            print(f"{name}: {value}")
    write(flags.FLAGS.json, result)


if __name__ == "__main__":
    flags.DEFINE_integer("methods", 40, "Methods.", 1, 40)
    flags.DEFINE_integer("datasets", 40, "Datasets.", 1, 42)
    flags.DEFINE_string("json", None, "File for the numbers.")
    cli.run(main)
