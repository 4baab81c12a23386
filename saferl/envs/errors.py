"""Errors that environments raise about the machine rather than about the call."""

import gymnasium


class MissingPackageError(gymnasium.error.DependencyNotInstalled, ImportError):
    """A simulator that an environment needs is not installed; the message says which one line installs it.

    It is a gymnasium error, so that commands report it in one line, and an ImportError for everybody else.
    """
