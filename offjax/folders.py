"""Names of folders that several packages know."""

BESIDE = ("stages", "sweeps", "tuning", "reported")
"""Folders in a folder of runs that hold no runs of the leaderboard."""
