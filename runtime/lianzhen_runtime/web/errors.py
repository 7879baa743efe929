"""What a console refuses, each a plain sentence.

::

    LianzhenError
    └── Turned                 code                      status
        ├── NotSignedIn        not-signed-in             401
        ├── WrongSecret        wrong-secret              401
        ├── CodeNeeded         code-needed               401
        ├── NotYours           not-yours                 403
        ├── ForeignPage        foreign-page              403
        ├── NotOpened          not-opened                503
        ├── ChangePassword     password-change-needed    403
        ├── SecondMissing      second-factor-missing     403
        ├── NoSuchThing        not-found                 404
        ├── Unfit              form-unfit                422
        └── TooOften           too-many-requests         429
"""

from lianzhen_runtime.errors import LianzhenError


class Turned(LianzhenError):
    """Somebody is turned away."""

    http_status = 400


class NotSignedIn(Turned):
    """Nobody is signed in, or no longer."""

    code = "not-signed-in"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("sign in first")


class WrongSecret(Turned):
    """Login, password or code is wrong; which one is not said."""

    code = "wrong-secret"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("login, password or code is wrong")


class CodeNeeded(Turned):
    """The password was right; the second factor is still to come."""

    code = "code-needed"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("the code of the second factor is needed")


class NotYours(Turned):
    """Signed in, but in no role that may do this."""

    code = "not-yours"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("your role does not allow this")


class NotOpened(Turned):
    """A browser asks ahead, for a page that nobody has opened."""

    code = "not-opened"
    http_status = 503

    def __init__(self) -> None:
        super().__init__("nobody has opened this page yet")


class ForeignPage(Turned):
    """Another site's page made this request (CSRF)."""

    code = "foreign-page"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("the request comes from a page of another site")


class ChangePassword(Turned):
    """Somebody else chose the password: first it is changed."""

    code = "password-change-needed"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("change the password first")


class SecondMissing(Turned):
    """This role needs a second factor, which is not set up yet."""

    code = "second-factor-missing"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("set up the second factor first")


class NoSuchThing(Turned):
    """There is none, or none that this person may know of."""

    code = "not-found"
    http_status = 404

    def __init__(self, message: str = "there is no such page") -> None:
        super().__init__(message)


class Unfit(Turned):
    """What was typed cannot be taken; ``word`` names the sentence in the word catalogue."""

    code = "form-unfit"
    http_status = 422

    def __init__(self, message: str, word: str = "") -> None:
        super().__init__(message)
        self.word = word


class TooOften(Turned):
    """Too many attempts."""

    code = "too-many-requests"
    http_status = 429

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many attempts; try again in {seconds} s")
        self.retry_after = seconds
