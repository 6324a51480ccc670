"""`offjax collect`, in a checkout: `python -m experiments.collect`."""

from offjax.cli import collect
from offjax.cli.command import start

if __name__ == "__main__":
    start(collect)
