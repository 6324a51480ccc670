"""The one exception that users are meant to read."""


class UserError(Exception):
    """Bad input: names the thing, its value and the remedy, in one paragraph.

    The commands print the message without a traceback and exit with code 2.
    """
