"""Trained agents apart from their runs: archives, loading, and replays of scores."""
