"""`python -m offjax` is the command `offjax`."""

from offjax.cli.main import main

if __name__ == "__main__":
    main()
