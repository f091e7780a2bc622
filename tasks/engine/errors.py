"""What goes wrong with a command: the user's mistakes, and models that must not be published."""


class UsageError(ValueError):
    """The command can't be carried out as given; the message is one line: what, where, the mend."""


class ExportError(RuntimeError):
    """The model must not be published; the message says all that speaks against it."""


class RunError(RuntimeError):
    """A training can't go on, though the command was right; the message is one line, as above."""


class Stopped(KeyboardInterrupt):
    """A training was asked to end, and has saved its state; the message says where it is."""
