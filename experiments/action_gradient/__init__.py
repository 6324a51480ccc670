"""Experiments of the Action Gradient paper."""
