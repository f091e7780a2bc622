"""What goes wrong with a command: the user's mistakes, and models that must not be published."""


def one_line(error: Exception, most: int | None = None) -> str:
    """An error's message without line breaks, cut after so many characters."""
    return " ".join(str(error).split())[:most]


class UsageError(ValueError):
    """The command can't be carried out as given; the message is one line: what, where, the mend."""


class ExportError(RuntimeError):
    """The model must not be published; the message says all that speaks against it."""


class RunError(RuntimeError):
    """A training can't go on, though the command was right; the message is one line, as above."""


class Stopped(KeyboardInterrupt):
    """A training was asked to end, and has saved its state; the message says where it is."""
