"""`offjax store`, in a checkout: `python -m experiments.store`."""

from offjax.cli import store
from offjax.cli.command import start

if __name__ == "__main__":
    start(store)
