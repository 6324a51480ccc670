"""What every command does around its `main`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from absl import app, flags, logging

from offjax.errors import UserError


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


def _parse(argv: list[str]) -> list[str]:
    """absl's parser; a bad flag is bad input like any other."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(str(error))
        raise


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
