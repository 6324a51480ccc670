"""What every command does around its `main`."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from offjax import terminal
from offjax.cli import usage
from offjax.errors import UserError
from offjax.presets import PRESETS

flags.disclaim_key_flags()

HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")


def start(command: ModuleType) -> None:
    """Runs a command of this package: its flags are defined, read, and obeyed."""
    with bad_input():
        command.define_flags()
    run(
        command.main,
        positional=getattr(command, "POSITIONAL", ""),
        text=command.__doc__ or "",
    )


def run(
    main: Callable[[list[str]], None], positional: str = "", text: str | None = None
) -> None:
    """Runs `main` under absl; bad input is a paragraph on stderr and exit code 2.

    Args:
      main: the command.
      positional: name of the flag that an argument without a name sets, or "".
      text: what `--help` prints above the flags; by default the docstring of the
        module of `main`.
    """
    if text is None:
        text = main.__globals__["__doc__"] or ""
    define_color()

    def parse(argv: list[str]) -> list[str]:
        if any(argument in HELP for argument in argv[1:]):
            print(usage.of_command(text, sections()), end="")
            sys.exit(0)
        with bad_input():
            flags.FLAGS.set_gnu_getopt()
            return _named(flags.FLAGS(argv), positional)

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:  # libraries report their every step
            logging.set_verbosity(logging.WARNING)
        terminal.choose_colors(flags.FLAGS.color)
        try:
            with bad_input():
                main(argv)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)

    app.run(guarded, flags_parser=parse)


@contextlib.contextmanager
def bad_input() -> Iterator[None]:
    """Turns errors of users, and of flags, into a paragraph and exit code 2."""
    try:
        yield
    except UserError as error:
        fail(str(error))
    except flags.UnrecognizedFlagError as error:
        fail(f"there is no flag --{error.flagname}.{_near_flags(error.flagname)}")
    except flags.Error as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Ends the process as bad input does."""
    print(terminal.styled("error:", "red", sys.stderr), message, file=sys.stderr)
    sys.exit(2)


def _near_flags(name: str) -> str:
    known = [flag for names in sections().values() for flag in names]
    if found := usage.near(name, known):
        return f" Did you mean --{' or --'.join(found)}?"
    return f" `{program()} --help` lists the flags."


def _named(argv: list[str], positional: str) -> list[str]:
    """Gives the one argument without a name to its flag.

    Raises:
      UserError: there are more, or the command takes none.
    """
    rest = argv[1:]
    if positional and rest and not flags.FLAGS[positional].present:
        flags.FLAGS[positional].parse(rest.pop(0))
        flags.FLAGS[positional].using_default_value = False
    if rest:
        raise UserError(
            f"unexpected argument {rest[0]!r}: options are given as --name=value."
        )
    return argv[:1]


def program() -> str:
    """How the command was called, without its flags."""
    if sys.argv[0].startswith("offjax "):
        return sys.argv[0]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else f"python {sys.argv[0]}"


def again(*more: str) -> str:
    """The command line that was given, with further flags."""
    given = [a for a in sys.argv[1:] if a not in more]
    return f"{program()} {shlex.join([*given, *more])}"


# -- flags -----------------------------------------------------------------------------

_SECTIONS: dict[str, list[str]] = {}


@contextlib.contextmanager
def section(title: str) -> Iterator[None]:
    """`--help` shows the flags that are defined inside under this title."""
    before = set(flags.FLAGS)
    yield
    _SECTIONS.setdefault(title, [])
    _SECTIONS[title] += [name for name in flags.FLAGS if name not in before]


def sections() -> dict[str, list[str]]:
    """Title → names of flags; those in no section come first, libraries' never."""
    sorted_in = {name for names in _SECTIONS.values() for name in names}
    others = [
        flag.name
        for module, mine in flags.FLAGS.flags_by_module_dict().items()
        if module.startswith((sys.argv[0], "offjax", "experiments", "benchmarks"))
        for flag in mine
        if flag.name not in sorted_in
    ]
    return ({"Options": others} if others else {}) | _SECTIONS


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


def define_color() -> None:
    """`--color`, which every command has."""
    with section("Output"):
        flags.DEFINE_enum(
            "color", "auto", ["auto", "always", "never"],
            "Colors; auto: on terminals, and not where $NO_COLOR is set.",
        )  # fmt: skip


def define_preset(default: str = "small") -> None:
    """`--preset`."""
    flags.DEFINE_enum(
        "preset", default, PRESETS,
        "Hyperparameters: published, sized for two CPU cores, or for a demonstration.",
    )  # fmt: skip


def define_data_dir() -> None:
    """`--data_dir`."""
    flags.DEFINE_string(
        "data_dir", None, "Root of the datasets; else $MINARI_DATASETS_PATH, ~/.minari."
    )


def define_host_devices() -> None:
    """`--host_devices`."""
    flags.DEFINE_integer("host_devices", None, "CPU devices; one per core by default.")


def define_evaluated_run() -> None:
    """The flags of what is evaluated of a finished run."""
    flags.DEFINE_string(
        "run", None, "Finished run: folder, unique run id, `latest` or `latest:METHOD`."
    )
    flags.DEFINE_string("runs_dir", "runs", "Where runs are looked for by name.")
    flags.DEFINE_string("improve", None, "Operator in place of the run's own.")
    flags.DEFINE_string(
        "critic_run", None, "Take the critic from this run (same dataset and seeds)."
    )
    flags.DEFINE_multi_string(
        "grid", [], "NAME=VALUE,VALUE… of what acting reads; repeat for a product."
    )


def find_run(flag: str) -> str | None:
    """The folder that `--run` or the like names; None if it was not given.

    Raises:
      UserError: there is no such run, or there are several.
    """
    from offjax.runner import lookup

    name = flags.FLAGS[flag].value
    return name and str(lookup.find(name, flags.FLAGS.runs_dir))


# -- hyperparameters -------------------------------------------------------------------


def declare_config() -> None:
    """`--config.NAME=VALUE[,VALUE…]`: every name given is declared as a tuple.

    Which names exist depends on the method, so they are checked with the recipe.
    """
    if "--config=list" in sys.argv:
        flags.DEFINE_enum("config", None, ["list"], usage.CONFIG)
        return
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
            raise UserError(
                f"{argument}: use --config.NAME=VALUE or --config.STAGE.NAME=VALUE."
            )
        if kind is dict:
            tree[names[0]][names[1]] = ()
    config_flags.DEFINE_config_dict("config", ml_collections.ConfigDict(tree))


def config_listed() -> bool:
    """Whether `--config=list` was given."""
    return flags.FLAGS.config == "list"


def overrides(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, tuple]:
    """The `--config.` flags as name → values.

    Raises:
      UserError: `--config=list` was given to a command that does not answer it.
    """
    if config == "list":
        raise UserError(
            "--config=list lists the hyperparameters of one method: `offjax run "
            "--method=… --config=list`."
        )
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
