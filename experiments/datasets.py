"""`offjax datasets`, in a checkout: `python -m experiments.datasets`."""

from offjax.cli import datasets
from offjax.cli.command import start

if __name__ == "__main__":
    start(datasets)
