"""Sweeps: many runs as jobs, on this machine or on a Ray cluster; tuning on them."""
