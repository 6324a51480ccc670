"""One variable says where everything that can be computed again is kept."""

from pathlib import Path

from offjax import cache
from offjax.datasets import text
from offjax.devices import compilation


def test_one_variable_for_all(tmp_path, monkeypatch, encoder_library):
    monkeypatch.setenv("OFFJAX_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(compilation.jax.config, "update", lambda *_: None)
    assert cache.folder("play/one") == tmp_path / "play" / "one"
    assert (tmp_path / "play" / "one").is_dir()
    assert compilation.keep_programs().parent == tmp_path / "programs"
    weights = tmp_path / "model"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    text.encode(["open it"], "minilm", weights=weights)
    assert encoder_library == ["open it"]
    assert len(list((tmp_path / "text").glob("*.npz"))) == 1


def test_without_it_the_home_folder(monkeypatch):
    for value in (None, ""):
        monkeypatch.delenv("OFFJAX_CACHE", raising=False)
        if value is not None:
            monkeypatch.setenv("OFFJAX_CACHE", value)
        assert cache.root() == Path("~/.cache/offjax").expanduser()
