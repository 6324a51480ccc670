"""`offjax tune`, in a checkout: `python -m experiments.tune`."""

from offjax.cli import tune
from offjax.cli.command import start

if __name__ == "__main__":
    start(tune)
