"""The loop: seeds over devices, stages, checkpoints, metrics, run records."""
