"""Makes rliable_reference.json with rliable 1.2.0 (needs pandas < 3, arch < 8).

    python -m venv v && v/bin/pip install rliable==1.2.0 "pandas<3" "arch<8"
    v/bin/python tests/leaderboard/rliable_reference.py

Its bootstrap draws from NumPy's global state, which is therefore seeded here.
"""

import json
from pathlib import Path

import numpy as np
from rliable import library, metrics

METRICS = {
    "mean": metrics.aggregate_mean,
    "median": metrics.aggregate_median,
    "iqm": metrics.aggregate_iqm,
    "optimality_gap": lambda scores: metrics.aggregate_optimality_gap(scores, 100),
}


def main() -> None:
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(55, 25, (10, 9)), 2)
    y = np.round(rng.normal(50, 25, (7, 9)), 2)
    y[:, 3] = x[:7, 3]  # ties

    np.random.seed(0)
    _, intervals = library.get_interval_estimates(
        {"x": x}, lambda s: np.array([f(s) for f in METRICS.values()]), reps=50_000
    )
    _, poi = library.get_interval_estimates(
        {"p": (x, y)}, metrics.probability_of_improvement, reps=20_000
    )
    thresholds = np.linspace(0, 100, 11)
    profile, bands = library.create_performance_profile(
        {"x": x}, thresholds, reps=20_000
    )
    content = {
        "x": x.T.tolist(),
        "y": y.T.tolist(),
        "x_metrics": {name: float(f(x)) for name, f in METRICS.items()},
        "y_metrics": {name: float(f(y)) for name, f in METRICS.items()},
        "x_intervals": dict(zip(METRICS, intervals["x"].T.tolist(), strict=True)),
        "probability_of_improvement": float(metrics.probability_of_improvement(x, y)),
        "poi_interval": np.ravel(poi["p"]).tolist(),
        "thresholds": thresholds.tolist(),
        "profile": profile["x"].tolist(),
        "profile_interval": bands["x"].tolist(),
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
