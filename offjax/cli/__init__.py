"""The commands: `offjax NAME`, and `python -m experiments.NAME` in a checkout.

absl flags are read here and nowhere else in offjax. A command is a module with a
docstring, `define_flags()` and `main(arguments)`; importing one defines no flag.
"""
