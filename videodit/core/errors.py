"""Errors that a person can cause and mend."""


class UserError(Exception):
    """A mistake in usage, config or input.

    The message is one line that names the thing, the value it had and the value that would be right. The command line
    prints it without a traceback and exits with status 2.
    """
