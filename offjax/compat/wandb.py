"""`wandb` where it is not installed: numbers go to a folder, all else is dropped.

A run is `wandb_local/<time>-<id>/`: `config.json`, and `history.jsonl` with a line for
each call of `log`. `offjax import-scores` reads such folders.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from offjax.errors import UserError

ROOT = Path("wandb_local")


class Settings(dict):
    """A script's settings, also as attributes."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


class Run:
    """A run, while it is written.

    Attributes:
      id: its name among others.
      name: what the script calls it.
      dir: its folder.
      config: the script's settings.
      summary: the last value of each number.
    """

    def __init__(self, settings: Settings, name: str | None) -> None:
        self.id = uuid.uuid4().hex[:8]
        self.name = name or self.id
        folder = ROOT / f"{datetime.now():%Y%m%d-%H%M%S}-{self.id}"
        folder.mkdir(parents=True)
        self.dir = str(folder)
        self.config, self.summary = settings, dict[str, float]()
        text = json.dumps({"name": self.name, **settings}, default=str, indent=1)
        (folder / "config.json").write_text(text)
        self._history: TextIO = (folder / "history.jsonl").open("w", buffering=1)
        self._step = 0

    def log(self, data: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        """Writes the numbers among `data`."""
        step = self._step if step is None else int(step)
        self._step = step + 1
        numbers = {k: v for k, x in data.items() if (v := _number(x)) is not None}
        self.summary |= numbers
        self._history.write(json.dumps({"_step": step, **numbers}) + "\n")

    def save(self, *_: Any, **__: Any) -> None:
        """Nothing: files stay where they are."""

    def finish(self, *_: Any, **__: Any) -> None:
        """Closes the file."""
        self._history.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: Any) -> None:
        self.finish()


run: Run | None = None
config = Settings()


def init(config: Any = None, name: str | None = None, **_: Any) -> Run:
    """Begins a run."""
    return _begin(Settings(_settings(config)), name)


def log(data: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> None:
    """Writes numbers of the run that was begun last.

    Raises:
      UserError: there is none.
    """
    if run is None:
        raise UserError("wandb.log was called before wandb.init. Call init first.")
    run.log(data, step, **kwargs)


def save(*_: Any, **__: Any) -> None:
    """Nothing: files stay where they are."""


def finish(*_: Any, **__: Any) -> None:
    """Ends the run."""
    global run
    if run is not None:
        run.finish()
    run = None


def _begin(settings: Settings, name: str | None) -> Run:
    global run, config
    config, run = settings, Run(settings, name)
    return run


def _settings(config: Any) -> dict[str, Any]:
    """The settings of a script: a mapping, dataclass, pydantic model or object."""
    if config is None:
        return {}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.asdict(config)
    if hasattr(config, "model_dump"):  # pydantic
        return config.model_dump()
    return dict(config) if isinstance(config, Mapping) else dict(vars(config))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _nothing(*_: Any, **__: Any) -> None:
    """What tables, videos, watching and the like become."""


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return _nothing
