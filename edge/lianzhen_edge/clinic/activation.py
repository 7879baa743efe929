"""A patient's account at the hub: made at the clinic, with a code on paper to take home."""

import secrets
from typing import TYPE_CHECKING

from aiohttp import web

from lianzhen_protocol.accounts import CLINICAL, Account, Role
from lianzhen_protocol.identity import base32
from lianzhen_protocol.people import Patient
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.web.errors import NoSuchThing, Unfit
from lianzhen_runtime.web.routes import Routes, Visit
from lianzhen_runtime.web.staff import NewAccount, Registry

if TYPE_CHECKING:
    from lianzhen_edge.box import Box


def routes(box: "Box", registry: Registry) -> Routes:
    """One button on the patient's page."""
    found = Routes()

    @found.post("/patients/{id}/activation", roles=CLINICAL)
    async def activate(visit: Visit) -> web.Response:
        """A login and a one-time password; a new one for whoever has lost theirs."""
        patient = box.journal.sheets.get(Patient, visit.match("id"))
        if patient is None:
            raise NoSuchThing("there is no such patient")
        if patient.temporary:
            raise Unfit("a temporary identity reads nothing at home; link it first")
        account = await registry.store.read(lambda sheets: _account_of(sheets, patient))
        if account is not None:
            password = await registry.reset(account, visit.actor.id, second=True)
        else:
            wanted = NewAccount(
                login=f"p{base32(secrets.token_bytes(5), 8)}",
                name=patient.name,
                roles=[Role.PATIENT],
                node=box.node,
                patient=patient.id,
            )
            act = await visit.act()
            account, password = await registry.make(wanted, visit.actor.id, act=act)
            if not password:  # a double click: the account is made, and this paper is the one
                password = await registry.reset(account, visit.actor.id, second=True)
        login = account.profile.login
        return visit.page(
            "activation/paper.html", patient=patient, id=account.id, login=login, password=password
        )

    return found


def _account_of(sheets: Sheets, patient: Patient) -> Account | None:
    """Their own account here, if they have one that is not revoked."""
    for account in sheets.find_token(Account, "patient", patient.id):
        if account.active and account.profile.roles == (Role.PATIENT,):
            return account
    return None
