"""Errors that a user can mend.

The command line prints the message of a `UserError` as one line on stderr and exits with code 2.
Anything else that escapes is a defect of ours and keeps its traceback.
"""


class UserError(Exception):
    """Bad input or a missing thing; the message names it and says what to do, on one line.

    A parameter stands in backticks in the message (`epsilons`); the command line writes its option there.

    Attributes:
        parameter: the name of the parameter that is wrong; empty where the fault is in none.
    """

    def __init__(self, message: str = "", *, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class ImageError(UserError):
    """One image that cannot be used; in a data set it is counted and the rest go on."""


class Unavailable(UserError):
    """Something that cannot be had here and now: a source that does not answer, `offline`."""
