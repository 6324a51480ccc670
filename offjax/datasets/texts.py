"""Sentences → what stages and policies read, by the text encoder of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offjax.datasets import calvin
from offjax.errors import UserError
from offjax.networks.language import Text, encode


def embed(sentences: Sequence[str], config: Any) -> Text:
    """Sentences [N] as a config's `text_encoder` and `text_weights` have them.

    Columns that are padding in all of them are left out, unless the config has
    `attend_padding`: masked padding changes nothing but the cost.

    Raises:
      UserError: as `encode`, or no table of embeddings can be read.
    """
    weights = config.text_weights or None
    table = _table(weights) if config.text_encoder == "table" else None
    text = encode(sentences, config.text_encoder, weights=weights, table=table)
    if getattr(config, "attend_padding", False):
        return text
    longest = int(text.mask.sum(1).max())
    return Text(text.tokens[:, :longest], text.mask[:, :longest], text.sentence)


def _table(weights: str | None) -> Mapping[str, np.ndarray]:
    if weights is None:
        raise UserError(
            "text_encoder=table needs text_weights: a folder of CALVIN's, such as "
            "task_D_D, or one of its files of embeddings, such as "
            "validation/lang_annotations/embeddings.npy."
        )
    return calvin.table(weights)
