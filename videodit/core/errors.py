"""Errors that a person can cause and mend, and the one that asks to be started again."""


class UserError(Exception):
    """A mistake in usage, config or input.

    The message is one line that names the thing, the value it had and the value that would be right. The command line
    prints it without a traceback and exits with status 2.
    """


# The exit status of a run that a launcher should start again with the same command: EX_TEMPFAIL of sysexits.h. A run that was told to stop
# ends with it once it has saved, and the watchdog ends a run that hangs with it.
RESTART_STATUS = 75


class RestartAsked(BaseException):
    """The run has saved and stopped before its end: the same command goes on from there. The exit status is `RESTART_STATUS`.

    As KeyboardInterrupt it is no Exception: what skips a bad record must not take it for one.
    """
