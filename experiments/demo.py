"""`offjax demo`, in a checkout: `python -m experiments.demo`."""

from offjax.cli import demo
from offjax.cli.command import start

if __name__ == "__main__":
    start(demo)
