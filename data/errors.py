"""What goes wrong with a user's data."""


class DataError(ValueError):
    """The data is wrong; the message is one line that says what, where, and how to mend it."""
