"""Text to vectors: one function, `encode`, in front of several frozen encoders.

    hash        word vectors drawn by a hash of the word, the same everywhere
    hash_order  also a vector for each pair of words, one before the other
    minilm      a MiniLM sentence encoder, where the user has the weights
    t5          the encoder half of a T5, likewise
    table       vectors that are given for each sentence, such as those CALVIN ships

Hashed words know nothing of meaning: a sentence is understood as far as its words were
seen in training. Its vector is the sum of its words, to which "red on blue" and "blue
on red" are one; `hash_order` tells them apart.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import chex
import numpy as np

from offjax import cache
from offjax.datasets import calvin
from offjax.errors import UserError

ENCODERS = ("hash", "hash_order", "minilm", "t5", "table")
HASH_DIM = 64
MAX_TOKENS = 64  # the scenes' longest instruction has 36 words
POSITION_SCALE = 0.5  # of hashed tokens' position code, where that of words is 1
WORDS = re.compile(r"[a-z0-9]+")


class Text(NamedTuple):
    """Embedded sentences, padded to one length with zeros; or one, without N."""

    tokens: chex.Array  # [N, T, D]
    mask: chex.Array  # [N, T] bool, True on tokens
    sentence: chex.Array  # [N, D]


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """What a method reads instructions with.

    Attributes:
      name: one of `ENCODERS`.
      weights: folder of a pretrained encoder; of "table", CALVIN's folder or file.
      keep_padding: whether columns that are padding in all sentences are kept. Masked
        padding changes nothing but the cost.
    """

    name: str = "hash"
    weights: str = ""
    keep_padding: bool = False

    def embed(self, sentences: Sequence[str]) -> Text:
        """Embeds sentences [N].

        Raises:
          UserError: as `encode`, or no table of embeddings can be read.
        """
        table = None
        if self.name == "table":
            if not self.weights:
                raise UserError(
                    "text_encoder=table needs text_weights: a folder of CALVIN's, such "
                    "as task_D_D, or one of its files of embeddings, such as "
                    "validation/lang_annotations/embeddings.npy."
                )
            table = calvin.table(self.weights)
        text = encode(sentences, self.name, weights=self.weights or None, table=table)
        if self.keep_padding:
            return text
        longest = int(text.mask.sum(1).max())
        return Text(text.tokens[:, :longest], text.mask[:, :longest], text.sentence)


def encode(
    texts: Sequence[str],
    encoder: str = "hash",
    *,
    max_tokens: int = MAX_TOKENS,
    weights: str | Path | None = None,
    table: Mapping[str, np.ndarray] | None = None,
) -> Text:
    """Embeds sentences; the same sentence gives the same vectors in any company.

    What the pretrained encoders compute is kept in the cache.

    Args:
      texts: the sentences.
      encoder: one of `ENCODERS`.
      max_tokens: T, to which all sentences are padded.
      weights: folder with the pretrained encoder, as `save_pretrained` writes it.
      table: sentence → [D], or [tokens, D], for `encoder="table"`.

    Raises:
      UserError: an unknown encoder, a sentence that is empty, too long or without an
        embedding, missing weights, or a missing library.
    """
    if encoder not in ENCODERS:
        raise UserError(
            f"text encoder {encoder!r} is not one of {', '.join(ENCODERS)}."
        )
    if encoder in ("hash", "hash_order"):
        found = [_hashed(text, encoder == "hash_order") for text in texts]
    elif encoder == "table":
        found = [_looked_up(text, table) for text in texts]
    else:
        found = _pretrained(texts, encoder, weights)
    return _padded(texts, found, max_tokens, encoder)


def _padded(
    texts: Sequence[str],
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    max_tokens: int,
    encoder: str,
) -> Text:
    """Tokens [n, D] and sentence [D] of each text, as one array of each."""
    if not found:
        raise UserError("There is no sentence to embed.")
    for text, (tokens, _) in zip(texts, found, strict=True):
        if len(tokens) > max_tokens:
            raise UserError(
                f"The instruction {text!r} has {len(tokens)} tokens for the encoder "
                f"{encoder!r}, more than max_tokens={max_tokens}: raise it, or shorten "
                "the instruction."
            )
    width = found[0][1].shape[-1]
    padded = np.zeros((len(found), max_tokens, width), np.float32)
    mask = np.zeros((len(found), max_tokens), bool)
    for i, (tokens, _) in enumerate(found):
        padded[i, : len(tokens)] = tokens
        mask[i, : len(tokens)] = True
    return Text(padded, mask, np.stack([s for _, s in found]).astype(np.float32))


@functools.lru_cache(maxsize=4096)
def word_vector(word: str, dim: int = HASH_DIM) -> np.ndarray:
    """The vector [dim] of a word: entries uniform, of mean 0 and variance 1."""
    digest = hashlib.shake_256(f"{dim}:{word}".encode()).digest(2 * dim)
    uniform = np.frombuffer(digest, "<u2").astype(np.float64) / (2**16 - 1)
    return (np.sqrt(12) * (uniform - 0.5)).astype(np.float32)


def _hashed(text: str, order: bool) -> tuple[np.ndarray, np.ndarray]:
    """Words [n, D] with their places, and the sum of words over √n [D].

    With `order`, that of the pairs of words, one before the other, is added to it.
    """
    words = WORDS.findall(text.lower())
    if not words:
        raise UserError(f"The instruction {text!r} has no word to embed.")
    vectors = np.stack([word_vector(word) for word in words])
    places = np.stack([word_vector(f"#{i}") for i in range(len(words))])
    sentence = vectors.sum(axis=0) / np.sqrt(len(words))
    if order and len(words) > 1:
        pairs = [word_vector(f"{a}<{b}") for a, b in combinations(words, 2)]
        sentence += np.sum(pairs, axis=0) / np.sqrt(len(pairs))
    return vectors + POSITION_SCALE * places, sentence


def _looked_up(
    text: str, table: Mapping[str, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    if table is None or text not in table:
        known = "; ".join(sorted(table or {})[:5])
        raise UserError(
            f"The instruction {text!r} has no embedding in the table that was given, "
            f"which holds {len(table or {})} sentences ({known}…): use one of them, "
            "add its embedding, or choose an encoder that embeds any sentence."
        )
    vectors = np.atleast_2d(np.asarray(table[text], np.float32))
    return vectors, vectors.mean(axis=0)


def _pretrained(
    texts: Sequence[str], encoder: str, weights: str | Path | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens and sentence of each text, read from the cache as far as it goes."""
    if weights is None or not (Path(weights) / "config.json").exists():
        raise UserError(
            f"The text encoder {encoder!r} needs weights, and {weights} is not a "
            "folder that holds them: download a model, save it with "
            "`save_pretrained`, and give its folder as text_weights; or choose "
            "text_encoder=hash, which needs none."
        )
    folder = cache.root() / "text"
    stamp = cache.stamp(Path(weights))
    found, model = [], None
    for text in texts:
        key = hashlib.sha256("\0".join((encoder, stamp, text)).encode()).hexdigest()
        path = folder / f"{key[:32]}.npz"
        arrays = cache.load(path)
        if arrays is None:
            model = model or _load(encoder, Path(weights))
            arrays = _embed(model, text)
            cache.save(path, arrays)
        found.append((arrays["tokens"], arrays["sentence"]))
    return found


def _load(encoder: str, weights: Path) -> tuple[Any, Any]:
    """Tokenizer and model, from local files alone."""
    for library in ("transformers", "torch"):
        if importlib.util.find_spec(library) is None:
            raise UserError(
                f"The text encoder {encoder!r} needs the library {library}: install "
                "both with `pip install transformers torch`, or choose "
                "text_encoder=hash."
            )
    import transformers

    kind = {"minilm": "AutoModel", "t5": "T5EncoderModel"}[encoder]
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        weights, local_files_only=True
    )
    model = getattr(transformers, kind).from_pretrained(weights, local_files_only=True)
    return tokenizer, model.eval()


def _embed(model: tuple[Any, Any], text: str) -> dict[str, np.ndarray]:
    """Last hidden states [n, D] and their mean [D], as sentence encoders pool."""
    tokenizer, network = model
    inputs = tokenizer(text, return_tensors="pt")
    hidden = network(**inputs).last_hidden_state[0].detach().numpy()
    return {"tokens": hidden, "sentence": hidden.mean(axis=0)}
