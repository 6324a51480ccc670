"""`offjax sweep`, in a checkout: `python -m experiments.sweep`."""

from offjax.cli import sweep
from offjax.cli.command import start

if __name__ == "__main__":
    start(sweep)
