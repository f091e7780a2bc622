"""What goes wrong with a command: the user's mistakes, and models that must not be published."""


class UsageError(ValueError):
    """The command can't be carried out as given; the message is one line: what, where, the mend."""


class ExportError(RuntimeError):
    """The model must not be published; the message says all that speaks against it."""
