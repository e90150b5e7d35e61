"""Errors a user can cause or mend: one clear line, what to do, and an exit code."""


class GpucostError(Exception):
    """A failure that ends in one line on stderr and never in a traceback.

    Attributes:
        exit_code: what the process ends with (2: the tool or its user failed).
        hint: what the user can do about it, or an empty string.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(GpucostError):
    """The command line or the configuration asks for something impossible."""


class RunNotFoundError(GpucostError):
    """No run, or more than one, answers to the name."""


class DamagedRunError(GpucostError):
    """Something in a run directory cannot be read."""


class NewerSchemaError(GpucostError):
    """The run was written by a newer gpucost than this one."""


class GateFailedError(GpucostError):
    """A gate failed or something is missing, while the tool itself worked."""

    exit_code = 1
