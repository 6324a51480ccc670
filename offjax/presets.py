"""The names of presets; imports nothing, so that flags are defined at once."""

PRESETS = ("paper", "small", "demo")
"""Published hyperparameters, sized for two CPU cores, and for a demonstration."""
