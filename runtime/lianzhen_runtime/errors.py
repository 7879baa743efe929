"""What can go wrong around a program, each a plain sentence that says what to do.

::

    LianzhenError          code, exit status
    ├── ConfigError        config-invalid    2
    ├── SecretError        secret-unsafe     2
    └── Unavailable        unavailable       1
"""


class LianzhenError(Exception):
    """An error for a person: ``str()`` is one plain sentence, ``code`` is stable."""

    code = "error"
    exit_status = 1

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ConfigError(LianzhenError):
    """The configuration file cannot be used as it is."""

    code = "config-invalid"
    exit_status = 2


class SecretError(LianzhenError):
    """A secret lies where others can read it, or is missing."""

    code = "secret-unsafe"
    exit_status = 2


class Unavailable(LianzhenError):
    """Something this program needs (a port, another program, a package) is not there."""

    code = "unavailable"
