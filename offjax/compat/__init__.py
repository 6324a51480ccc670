"""Runs scripts that were written for D4RL and the old gym, unchanged.

    python -m offjax.compat SCRIPT.py ARGS

The script finds `gym` (reset() → observation, step() → four values) and `d4rl`, made
of this project's readers, datasets and environments. They are put into `sys.modules`
by this command alone. No module here imports JAX before the script makes its first
environment, so that the script's own settings of JAX still count.
"""
