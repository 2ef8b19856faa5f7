"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake in what the user gave: the message says what, where and the way out.

    Commands print the message and exit with status 2; they never show a traceback for it.
    """
