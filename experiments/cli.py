"""What every command does around its `main`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from offjax.errors import UserError

flags.disclaim_key_flags()  # what is defined here is shown by the command's --help


def run(main: Callable[[list[str]], None]) -> None:
    """Runs `main` under absl; bad input is a paragraph on stderr and exit code 2."""

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:  # libraries report their every step
            logging.set_verbosity(logging.WARNING)
        if len(argv) > 1:
            _fail(
                f"unexpected argument {argv[1]!r}: options are given as --name=value."
            )
        try:
            main(argv)
        except UserError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            sys.exit(141)

    app.run(guarded, flags_parser=_parse)


class _CountParser(flags.ArgumentParser):
    """Whole numbers, also as 1e4."""

    syntactic_help = "a whole number"

    def parse(self, argument: str | int) -> int:
        """The number; `ValueError` for anything else."""
        try:
            return int(argument)
        except ValueError:
            number = float(argument)
            if not number.is_integer():
                raise ValueError(f"{argument} is not a whole number") from None
            return int(number)

    def flag_type(self) -> str:
        """As `--help` names it."""
        return "int"


def define_count(
    name: str, default: int | None, description: str
) -> flags.FlagHolder[Any]:
    """A flag for a number of updates or the like: 10000 or 1e4."""
    return flags.DEFINE(_CountParser(), name, default, description)


def declare_config() -> flags.FlagHolder:
    """`--config.NAME=VALUE[,VALUE…]`: every name given is declared as a tuple.

    Which names exist depends on the method, so they are checked with the recipe.
    """
    tree: dict[str, Any] = {}
    for argument in sys.argv[1:]:
        flag, _, _ = argument.lstrip("-").partition("=")
        first, *names = flag.split(".")
        if first != "config" or not names:
            continue
        kind: type = tuple if len(names) == 1 else dict
        node = tree.setdefault(names[0], kind())
        sound = len(names) <= 2 and all(name.isidentifier() for name in names)
        if not sound or type(node) is not kind:
            _fail(f"{argument}: use --config.NAME=VALUE or --config.STAGE.NAME=VALUE.")
        if kind is dict:
            node[names[1]] = ()
    config = ml_collections.ConfigDict(tree)
    return config_flags.DEFINE_config_dict("config", config)


def overrides(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, tuple]:
    """The `--config.` flags as name → values."""
    found: dict[str, tuple] = {}
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            found |= overrides(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = tuple(value)
    return found


def with_steps(found: dict[str, tuple], num_steps: int | None) -> dict[str, tuple]:
    """The `--config.` flags with `--num_steps`, if it was given.

    Raises:
      UserError: `--config.num_steps` was given as well.
    """
    if num_steps is None:
        return found
    if "num_steps" in found:
        raise UserError(
            f"--num_steps={num_steps} and --config.num_steps="
            f"{','.join(map(str, found['num_steps']))} set the same; omit one of them."
        )
    return {"num_steps": (num_steps,)} | found


def _parse(argv: list[str]) -> list[str]:
    """absl's parser; a bad flag is bad input like any other."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(str(error))
        raise
    except SystemExit:  # --help was answered: absl exits with 1
        sys.exit(0)


def parse_grid(entries: list[str]) -> dict[str, tuple]:
    """`["log_tau=0,0.5"]` → {"log_tau": (0, 0.5)}."""
    from ml_collections.config_flags import tuple_parser

    grid = {}
    for entry in entries:
        name, equals, values = entry.partition("=")
        if not equals or not values:
            raise UserError(f"--grid={entry} is not of the form NAME=VALUE,VALUE….")
        grid[name] = tuple_parser.TupleParser().parse(values)
    return grid


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
