"""What an external broker asks at each connect and for each topic, and what it is told.

For RabbitMQ's ``rabbitmq_auth_backend_http``: forms, answered ``allow`` or ``deny``. The name comes
from the certificate, which the broker has verified; the rights are those of docs/protocol.md, 2.
"""

from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web

from lianzhen_protocol.identity import HUB
from lianzhen_protocol.topics import ROOT

PREFIX: Final = "/broker/v1"
QUESTIONS: Final = ("user", "vhost", "resource", "topic")
_ROOT: Final = ROOT.replace("/", ".")
_EXCHANGE: Final = "amq.topic"

Fields = Mapping[str, str]


def allowed(question: str, asked: Fields, is_active: Callable[[str], bool]) -> bool:
    """Whether a certificate's holder may: be here, have this queue or exchange, use this topic."""
    name = asked.get("username", "")
    if name != HUB and not is_active(name):
        return False
    match question:
        case "user":
            return True
        case "vhost":
            # A client id is a session, and whoever takes it over ends the one that was there.
            return asked.get("client_id", "").startswith(f"{name}.")
        case "resource":
            return _resource(name, asked)
        case "topic":
            return asked.get("name") == _EXCHANGE and _topic(name, asked)
        case _:
            return False


def _resource(name: str, asked: Fields) -> bool:
    if asked.get("resource") == "exchange":
        return asked.get("name") == _EXCHANGE and asked.get("permission") in {"read", "write"}
    own = asked.get("name", "").startswith(f"mqtt-subscription-{name}.")
    return asked.get("resource") == "queue" and own


def _topic(name: str, asked: Fields) -> bool:
    key, permission = asked.get("routing_key", ""), asked.get("permission")
    if name == HUB:
        down = key.removeprefix(f"{_ROOT}.").partition(".")[2].startswith("down.")
        return (
            key == f"{_ROOT}.*.up.#"
            if permission == "read"
            else permission == "write" and key.startswith(f"{_ROOT}.") and down
        )
    if permission == "read":
        return key.startswith(f"{_ROOT}.{name}.down.")
    return permission == "write" and key.startswith(f"{_ROOT}.{name}.up.")


def application(is_active: Callable[[str], bool]) -> web.Application:
    """The four questions."""

    def asker(question: str) -> Callable[[web.Request], object]:
        async def answer(request: web.Request) -> web.Response:
            asked = {key: str(value) for key, value in (await request.post()).items()}
            return web.Response(text="allow" if allowed(question, asked, is_active) else "deny")

        return answer

    app = web.Application()
    app.add_routes([web.post(f"{PREFIX}/{each}", asker(each)) for each in QUESTIONS])  # type: ignore[arg-type]
    return app
