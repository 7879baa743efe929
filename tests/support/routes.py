"""What both consoles declare, from consoles that serve nothing."""

from collections.abc import Collection
from pathlib import Path

from lianzhen_edge.box import Box
from lianzhen_edge.clinic.app import Clinic
from lianzhen_edge.settings import Settings as BoxSettings
from lianzhen_hub.consoles.app import HubConsole
from lianzhen_hub.hub import Hub
from lianzhen_hub.settings import Settings as HubSettings
from lianzhen_protocol.accounts import Role
from lianzhen_runtime.web.routes import Route

AT_THE_CLINIC = (Role.NURSE, Role.DOCTOR, Role.PHARMACIST, Role.ADMIN)
AT_THE_HUB = (Role.EXPERT, Role.ADMIN, Role.PATIENT)


def clinic_routes(folder: Path) -> list[Route]:
    """Of a blank box in ``folder``."""
    return Clinic(Box(BoxSettings(state=str(folder)), ())).console.routes


def hub_routes(folder: Path) -> list[Route]:
    """Of a new hub in ``folder``."""
    return HubConsole(Hub(HubSettings(state=str(folder)))).console.routes


def pages(routes: Collection[Route], role: Role) -> list[str]:
    """Addresses of whole pages that a role may see and that need no id."""
    return [
        route.path
        for route in routes
        if route.method == "GET"
        and role in route.roles
        and None not in route.roles
        and not {"{", "."}.intersection(route.path)
        and not route.path.endswith(("/fragment", "/live"))
    ]
