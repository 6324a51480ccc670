"""Hyperparameters under their former names."""

RENAMED: dict[str, dict[str, str]] = {
    "awac": {"lr": "critic_lr", "polyak": "tau", "temperature": "awac_lambda"},
    "bc": {"lr": "actor_lr"},
    "bc_vae": {"lr": "actor_lr"},
    "bcq": {"lr": "critic_lr", "polyak": "tau"},
    "cql": {
        "lr": "critic_lr",
        "polyak": "tau",
        "lagrange_gap": "target_action_gap",
    },
    "iql": {"lr": "critic_lr", "polyak": "tau"},
    "iterative_cfpi": {"lr": "critic_lr", "polyak": "tau"},
    "multistep_cfpi": {"lr": "critic_lr", "polyak": "tau"},
    "rev_kl": {"lr": "actor_lr"},
    "sarsa": {"lr": "critic_lr", "polyak": "tau"},
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
