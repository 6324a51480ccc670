"""Hyperparameters under their former names."""

RENAMED: dict[str, dict[str, str]] = {
    "reinformer": {
        "temperature": "initial_alpha",
        "temperature_lr": "alpha_lr",
        "extra_temperature": "awac_lambda",
    },
    "reinformer_original": {
        "temperature": "initial_alpha",
        "temperature_lr": "alpha_lr",
    },
    "tdmpc2": {"polyak": "tau"},
    "td3_bc": {"lr": "critic_lr", "polyak": "tau"},
}
"""Method → former name → name; the former ones are errors that name the new ones."""
