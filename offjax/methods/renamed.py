"""Hyperparameters under their former names."""

RENAMED: dict[str, dict[str, str]] = {
    "td3_bc": {"lr": "critic_lr", "polyak": "tau"},
}
"""Method → former name → name; the former ones are errors that name the new ones."""
