"""The plain page from which a PC takes the box's authority; the only thing served without TLS.

Nothing secret goes over it. Somebody on the network could still change it, so the fingerprint is
compared with what the box itself says: ``lianzhen-edge status``, or the label printed from it.
"""

from pathlib import Path

from aiohttp import web

from lianzhen_edge.appliance.browser_trust import BrowserAuthority
from lianzhen_runtime.web.assets import STATIC
from lianzhen_runtime.web.console import language_of, protect
from lianzhen_runtime.web.look import Look

FILE_NAME = "lianzhen-box.crt"


def application(look: Look, authority: BrowserAuthority, console_port: int) -> web.Application:
    """The page, the authority as a file, and the style sheet."""

    async def page(request: web.Request) -> web.Response:
        language = language_of(request)
        host = request.url.host or ""
        name = f"[{host}]" if ":" in host else host
        text = look.render(
            "setup/trust.html",
            {
                **look.frame(language, request.path),
                "fingerprint": authority.fingerprint,
                "console_url": f"https://{name}:{console_port}/",
                "file": FILE_NAME,
            },
        )
        return web.Response(text=text, content_type="text/html")

    async def certificate(_request: web.Request) -> web.Response:
        return web.Response(
            body=authority.der,
            content_type="application/x-x509-ca-cert",
            headers={"Content-Disposition": f'attachment; filename="{FILE_NAME}"'},
        )

    app = web.Application()
    app.on_response_prepare.append(protect)
    app.router.add_static("/static/", Path(STATIC))
    app.add_routes([web.get("/", page), web.get(f"/{FILE_NAME}", certificate)])
    return app
