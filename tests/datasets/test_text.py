"""Hashed words, tables of embeddings, the cache, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest

from offjax.datasets import text as language
from offjax.datasets.text import encode, word_vector
from offjax.envs import scene_instructions
from offjax.errors import UserError

SENTENCES = ["Open the drawer.", "close the window now"]


def test_hashed_words_are_the_same_in_every_process():
    code = (
        "from offjax.datasets.text import word_vector;"
        "print(*word_vector('drawer', 8).tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    found = np.array(out.stdout.split(), np.float32)
    np.testing.assert_array_equal(found, word_vector("drawer", 8))
    # The first two bytes of the hash, by hand.
    import hashlib

    digest = hashlib.shake_256(b"8:drawer").digest(2)
    expected = 12**0.5 * ((digest[0] + 256 * digest[1]) / 65535 - 0.5)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_words_are_nearly_orthogonal_and_of_unit_variance():
    vectors = np.stack([word_vector(f"word{i}", 512) for i in range(50)])
    np.testing.assert_allclose(vectors.var(), 1, atol=0.05)
    cosines = vectors @ vectors.T / 512 - np.eye(50)
    assert np.abs(cosines).max() < 0.3


def test_sentences_are_sums_and_tokens_know_their_place():
    text = encode(SENTENCES)
    assert text.tokens.shape == (2, 64, 64)
    assert text.mask.sum(1).tolist() == [3, 4]
    assert not text.tokens[0, 3:].any()
    words = sum(word_vector(w, 64) for w in ("open", "the", "drawer"))
    np.testing.assert_allclose(text.sentence[0], words / 3**0.5, rtol=1e-5)
    swapped = encode(["drawer the open"])
    np.testing.assert_allclose(swapped.sentence[0], text.sentence[0], atol=1e-5)
    assert np.abs(swapped.tokens[0] - text.tokens[0]).max() > 0.1
    np.testing.assert_allclose(swapped.tokens[0, 1], text.tokens[0, 1])


def test_order_is_told_by_pairs_of_words():
    names = ["red on blue", "blue on red"]
    plain, ordered = encode(names), encode(names, "hash_order")
    np.testing.assert_array_equal(ordered.tokens, plain.tokens)
    np.testing.assert_allclose(plain.sentence[0], plain.sentence[1], atol=1e-6)
    pairs = [word_vector(p, 64) for p in ("red<on", "red<blue", "on<blue")]
    extra = ordered.sentence[0] - plain.sentence[0]
    np.testing.assert_allclose(extra, sum(pairs) / 3**0.5, atol=1e-5)
    assert np.abs(ordered.sentence[0] - ordered.sentence[1]).max() > 0.5
    alone = encode(["stop"], "hash_order").sentence
    np.testing.assert_array_equal(alone, encode(["stop"]).sentence)


@pytest.mark.parametrize("scene", ["scene", "cube-double", "cube-triple"])
def test_there_is_room_for_every_wording(scene):
    known = scene_instructions.all_instructions(scene).values()
    sentences = [s for i in known for s in (*i.wordings, *i.held_out)]
    text = encode(sentences)
    assert text.mask.sum(1).tolist() == [
        len(language.WORDS.findall(sentence.lower())) for sentence in sentences
    ]


def test_the_company_does_not_matter():
    alone, together = encode(SENTENCES[1:]), encode(SENTENCES)
    for one, both in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one[0], both[1])


def test_table_of_embeddings():
    table = {"open it": np.ones(3), "close it": np.arange(6).reshape(2, 3)}
    text = encode(["close it", "open it"], "table", table=table, max_tokens=4)
    np.testing.assert_array_equal(text.sentence, [[1.5, 2.5, 3.5], [1, 1, 1]])
    assert text.mask.sum(1).tolist() == [2, 1]
    with pytest.raises(UserError, match="'lift it' has no embedding"):
        encode(["lift it"], "table", table=table)


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        (["open"], {"encoder": "bert"}, "'bert' is not one of hash"),
        (["... !"], {}, "no word to embed"),
        ([], {}, "no sentence"),
        (["a b c d"], {"max_tokens": 3}, "4 tokens.*more than max_tokens=3"),
        (["open"], {"encoder": "t5"}, "needs weights"),
        (["open"], {"encoder": "minilm", "weights": "/nowhere"}, "/nowhere is not"),
    ],
)
def test_what_cannot_be_embedded(texts, settings, message):
    with pytest.raises(UserError, match=message):
        encode(texts, **settings)


def test_pretrained_vectors_are_kept_on_disk(tmp_path, monkeypatch, encoder_library):
    """The model is asked once for each sentence."""
    monkeypatch.setenv("OFFJAX_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    asked = encoder_library
    settings = {"weights": weights}
    first = encode(SENTENCES, "minilm", **settings)
    again = encode([SENTENCES[1], "a new one"], "minilm", **settings)
    assert asked == [*SENTENCES, "a new one"]
    np.testing.assert_array_equal(first.tokens[1], again.tokens[0])
    assert first.sentence[0].tolist() == [len(SENTENCES[0])] * 2
    # Other weights are another encoder.
    (weights / "model.safetensors").write_text("x")
    encode(SENTENCES[:1], "minilm", **settings)
    assert asked[-1] == SENTENCES[0]


def test_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFJAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(language.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"transformers: .*install transformers torch"):
        encode(["open"], "t5", weights=tmp_path)
