"""The one error of the data package: something about a corpus is wrong, and the message says what to do."""

from harness.errors import UserError


class DataError(UserError):
    """A corpus is unknown, missing, corrupt or asked for something it does not have.

    The message is one line that names the value, the place and the choices, fit to be shown without a traceback.
    """
