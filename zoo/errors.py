"""What goes wrong with a user's choice of model or preset."""


class PresetError(ValueError):
    """A preset can't be had or used; the message is one line: what, where, how to mend it."""
