"""What goes wrong with a user's command or config."""


class UsageError(ValueError):
    """The command can't be carried out as given; the message is one line: what, where, the mend."""
