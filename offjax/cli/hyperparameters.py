"""A method's hyperparameters: name, default by preset, meaning."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from offjax.presets import PRESETS

COMMON = {
    "actor_lr": "Adam's step size for the policy.",
    "critic_lr": "Adam's step size for the critic.",
    "lr": "Adam's step size.",
    "discount": "γ, the discount of later rewards.",
    "tau": "rate at which target networks follow.",
    "hidden_dims": "widths of the hidden layers.",
    "vae_hidden_dims": "widths of the hidden layers of the autoencoder.",
    "batch_size": "rows of an update.",
    "num_layers": "layers of a transformer.",
    "num_heads": "attention heads.",
    "weight_decay": "AdamW's weight decay.",
    "text_encoder": "how instructions become vectors; see offjax.datasets.text.",
    "text_weights": "folder of a pretrained text encoder.",
}
"""Meaning of the names that most methods share, where a method does not say more."""


def lines(method: str, dataset: str = "", data_dir: str | None = None) -> list[str]:
    """What `--config=list` prints; no data is loaded.

    Args:
      method: a method, or policy+critic+operator.
      dataset: id; recipes may have other defaults for its domain.
      data_dir: root of the datasets.

    Raises:
      UserError: an unknown method or dataset.
    """
    from offjax.catalog.load import known_spec
    from offjax.methods import build
    from offjax.runner.settings import owners

    spec = known_spec(dataset, data_dir) if dataset else None
    recipes = {p: build(method, spec, p, dataset) for p in PRESETS}
    where = f" on {dataset}" if spec else ""
    more = "" if spec else " Domains have others: add --dataset=offjax/…"
    found = [
        f"Hyperparameters of {method}{where}. Set one with --config.NAME=VALUE, or in "
        "one stage alone with --config.STAGE.NAME=VALUE.",
        f"Defaults are those of the presets {' | '.join(PRESETS)}.{more}",
    ]
    steps = {stage.name for stage in recipes["paper"].stages}
    by_preset = [(recipe, owners(recipe)) for recipe in recipes.values()]
    for owner, config in owners(recipes["paper"]).items():
        found += ["", f"# {owner}"]
        if owner in steps:
            values = [recipe.stage(owner).num_steps for recipe in recipes.values()]
            found.append(_line("num_steps", values, "updates."))
        meanings = meanings_of(type(config))
        for field in dataclasses.fields(config):
            values = [getattr(configs[owner], field.name) for _, configs in by_preset]
            found.append(_line(field.name, values, meanings.get(field.name, "")))
    return found


def meanings_of(config: type) -> dict[str, str]:
    """Field → meaning, from the docstrings of a config class and its bases."""
    found = dict(COMMON)
    for base in reversed(config.__mro__):
        found |= _attributes(base.__doc__ or "")
    return found


def _attributes(docstring: str) -> dict[str, str]:
    """The entries under `Attributes:` of a docstring; `a, b: …` is of both names."""
    _, _, text = inspect.cleandoc(docstring).partition("Attributes:\n")
    section = re.split(r"\n(?=\S)", text)[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n  (?=\S)", f"\n{section}"):
        names, colon, meaning = entry.partition(":")
        if colon:
            found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return found


def _line(name: str, values: list[Any], meaning: str) -> str:
    """Name, defaults, meaning; one default where all presets have the same."""
    from offjax.runner.values import text

    shown = [text(value) or '""' for value in values]
    default = shown[0] if len(set(shown)) == 1 else " | ".join(shown)
    return f"{name:22s}{default:34s}{meaning}".rstrip()
