"""Options of a run that are no hyperparameters."""

from __future__ import annotations

import dataclasses

from offjax.errors import UserError

EVAL_BEHIND = ("auto", "on", "off")
MAX_SEED = 2**32 - 1
"""Seeds are unsigned 32-bit integers on the devices."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run; nothing here is a hyperparameter of a method.

    Attributes:
      num_seeds: seeds `seed` … `seed + num_seeds − 1`.
      seed: the first seed.
      seeds_at_once: seeds that are trained together, in waves; 0 = all of them.
      eval_every: updates between evaluations of the last stage; 0 = at its end only.
      eval_episodes: full episodes per seed and evaluation.
      eval_chains: chains of five instructions per seed and evaluation, where policies
        follow instructions; `eval_episodes` then counts single instructions.
      eval_seed: number of the set of evaluation episodes; tuning uses another.
      eval_behind: whether the next chunk trains while the host steps an evaluation's
        environments: "on", "off", or "auto" where both can run at once. The results
        are the same.
      log_every: updates between metrics; 0 = twenty times a stage.
      checkpoint_every: updates between checkpoints; 0 = ten times a stage.
      chunk_seconds: about how long the devices train between two chances to stop and
        to show progress; what is learned and recorded is the same.
      runs_dir: where run folders go.
      layout: "auto", "map" or "vmap".
      matmul_precision: "default", "float32", "tf32" or "bfloat16", see
        `offjax.devices.layout.PRECISIONS`.
      stream: whether the rows of the data stay on the host, or on disk, and batches are
        sent to the devices; what is learned is the same.
      profile: folder for a trace of each stage's second chunk; "" for none.
      max_devices: local devices to use at most; 0 = all.
      resume: continue the newest unfinished run of the same configuration.
      reuse_stages: take stages from the store instead of training them again.
      log: optional sinks beside the CSV files.
      sweep: name of the sweep that the run belongs to, if any; `resume` then begins a
        new run where none of this configuration is there, whatever else is under way.
      quiet: no progress lines.
    """

    num_seeds: int = 5
    seed: int = 0
    seeds_at_once: int = 0
    eval_every: int = 0
    eval_episodes: int = 20
    eval_chains: int = 0
    eval_seed: int = 0
    eval_behind: str = "auto"
    log_every: int = 0
    checkpoint_every: int = 0
    chunk_seconds: float = 5.0
    runs_dir: str = "runs"
    layout: str = "auto"
    matmul_precision: str = "default"
    stream: bool = False
    profile: str = ""
    max_devices: int = 0
    resume: bool = False
    reuse_stages: bool = True
    log: tuple[str, ...] = ()
    sweep: str = ""
    quiet: bool = False

    def validate(self) -> None:
        """Raises `UserError` for numbers that cannot be meant."""
        if self.num_seeds < 1:
            raise UserError(f"num_seeds={self.num_seeds}: at least one seed is needed.")
        for name in (
            "seed",
            "seeds_at_once",
            "eval_every",
            "eval_chains",
            "eval_seed",
            "log_every",
            "checkpoint_every",
        ):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)} must not be negative.")
        for name, last in (
            ("seed", self.seed + self.num_seeds - 1),
            ("eval_seed", self.eval_seed),
        ):
            if last > MAX_SEED:
                raise UserError(
                    f"{name}={getattr(self, name)} is out of range: seeds go up to "
                    f"{MAX_SEED}."
                )
        if self.eval_behind not in EVAL_BEHIND:
            raise UserError(
                f"eval_behind={self.eval_behind!r} is not one of "
                f"{', '.join(EVAL_BEHIND)}."
            )
        if not self.chunk_seconds > 0:
            raise UserError(
                f"chunk_seconds={self.chunk_seconds}: more than 0 is needed."
            )
        if self.eval_episodes < 1:
            raise UserError(
                f"eval_episodes={self.eval_episodes}: at least 1 is needed."
            )

    @property
    def seeds(self) -> list[int]:
        """The seeds' numbers."""
        return list(range(self.seed, self.seed + self.num_seeds))

    @property
    def at_once(self) -> int:
        """How many seeds are trained together."""
        return min(self.seeds_at_once or self.num_seeds, self.num_seeds)
