"""The error a person causes and can mend: one sentence, exit code 2."""


class UserError(ValueError):
    """Says what came, what was meant and what to do. The command line prints it without a traceback."""
