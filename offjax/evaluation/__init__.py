"""Rollouts on device, and what is measured without an environment."""
