"""The one thing that all of univseg's own errors have in common."""


class UnivsegError(ValueError):
    """
    Something given from outside (a file, a setting, a name) that cannot be used.

    The message says what, and what was expected: it is meant to be shown without a traceback.
    """
