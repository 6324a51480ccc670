"""`offjax run`, in a checkout: `python -m experiments.run`."""

from offjax.cli import run
from offjax.cli.command import start

if __name__ == "__main__":
    start(run)
