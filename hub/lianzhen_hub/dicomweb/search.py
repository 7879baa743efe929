"""QIDO-RS (PS3.18, 10.6): studies, series and instances that are for whoever asks, and are here.

What sheets know decides first; a file is read only for what an answer shows, or for an attribute
that no sheet has. Newest studies first.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from aiohttp import web

from lianzhen_hub.consultations.access import is_on
from lianzhen_protocol.accounts import Actor, Role
from lianzhen_protocol.consultation import Consultation, State
from lianzhen_protocol.errors import ProtocolError
from lianzhen_protocol.imaging import Instance, Sent, Study, images_of
from lianzhen_protocol.sheets import Sheets
from lianzhen_runtime.dicomweb.archive import ImageAway, Reading
from lianzhen_runtime.dicomweb.media import DICOM_JSON, JSON, choose
from lianzhen_runtime.dicomweb.query import ALL, NOT_ALL, NOT_FUZZY, Query, matches, parse
from lianzhen_runtime.dicomweb.retrieve import PREFIX, origin, sketch
from lianzhen_runtime.web.routes import Visit

from .archive import named_once, studies_named

if TYPE_CHECKING:
    from lianzhen_hub.hub import Hub

MOST_STUDIES: Final = 2000
"""That are looked through for an answer."""
MOST_RESULTS: Final = {"study": 200, "series": 1000, "instance": 5000}

Attributes = dict[str, Any]

STUDY_TAGS: Final = frozenset(
    {"00080020", "00080030", "00080050", "00080090", "00080201", "00081030", "00081060"}
    | {"00100010", "00100020", "00100021", "00100030", "00100040", "0020000D", "00200010"}
    | {"00101010", "00101020", "00101030", "001021B0", "00104000"}
)
_STUDY_ALWAYS: Final = STUDY_TAGS - {"00101010", "00101020", "00101030", "001021B0", "00104000"}
_SERIES_TAGS: Final = frozenset(
    {"00080021", "00080031", "00080060", "0008103E", "0020000E", "00200011", "00400244"}
    | {"00400245", "00400275", "00180015", "00080070", "00081090", "00081010"}
)
_SERIES_ALWAYS: Final = _SERIES_TAGS - {"00180015", "00080070", "00081090", "00081010"}
_INSTANCE_ALWAYS: Final = frozenset(
    {"00080016", "00080018", "00200013", "00280008", "00280010", "00280011", "00280100"}
    | {"00083002"}
)
_SHEET_KNOWS: Final = frozenset(
    {"00080020", "00080050", "00080061", "00081030", "00100010", "00100020", "00100030"}
    | {"00100040", "0020000D"}
)


class _Group(NamedTuple):
    """One Study Instance UID, of however many boxes."""

    uid: str
    studies: list[Study]


class Search:
    """The handlers."""

    def __init__(self, hub: "Hub", reading: Reading) -> None:
        self._hub = hub
        self._reading = reading

    async def studies(self, visit: Visit) -> web.StreamResponse:
        """Studies."""
        return await self._search(visit, "study")

    async def series(self, visit: Visit) -> web.StreamResponse:
        """Series of a study, or of all."""
        return await self._search(visit, "series")

    async def instances(self, visit: Visit) -> web.StreamResponse:
        """Instances of a series, of a study, or of all."""
        return await self._search(visit, "instance")

    async def _search(self, visit: Visit, level: str) -> web.StreamResponse:
        type_ = choose(visit.request.headers.get("Accept", ""), (DICOM_JSON, JSON))
        query = parse(visit.request.query.items())
        most = MOST_RESULTS[level]
        limit = most if query.limit is None else min(query.limit, most)
        found: list[Attributes] = []
        skipped, more = 0, False
        async for attributes in self._found(visit, query, level):
            if skipped < query.offset:
                skipped += 1
            elif len(found) < limit:
                found.append(attributes)
            else:
                more = query.limit is None or query.limit > most
                break
        warnings = [NOT_FUZZY] * query.fuzzy + [NOT_ALL] * more
        headers = {"Cache-Control": "no-store", "Vary": "Accept"}
        if warnings:
            headers["Warning"] = ", ".join(warnings)
        body = msgspec.json.encode(found)
        answer = web.Response(body=body, content_type=type_, headers=headers)
        answer.enable_compression()
        return answer

    async def _found(self, visit: Visit, query: Query, level: str) -> AsyncIterator[Attributes]:
        names = visit.request.match_info
        actor = visit.actor
        uids = [names["study"]] if "study" in names else query.uids("0020000D")
        groups = await self._hub.consult(lambda sheets: _groups(sheets, actor, uids))
        at_once = [match for match in query.matches if match.path[0] in _SHEET_KNOWS]
        await self._note(visit)
        for group in groups:
            if not matches(_by_sheet(group), at_once):
                continue
            images = await self._hub.consult(partial(_images, group))
            if "series" in names:
                images = [one for one in images if one.series_uid == names["series"]]
            async for attributes in self._in_study(visit, group, images, query, level):
                if matches(attributes, query.matches):
                    yield _shown(attributes, query, level)

    async def _note(self, visit: Visit) -> None:
        """A list of people is a look, too."""
        actor = visit.actor.id
        await self._hub.transact(lambda page: page.audit(actor, "read", "page/dicomweb"))

    async def _in_study(
        self, visit: Visit, group: _Group, images: list[Instance], query: Query, level: str
    ) -> AsyncIterator[Attributes]:
        if not images:
            return
        address = f"{origin(visit)}{PREFIX}/studies/{group.uid}"
        first = await self._attributes(images[len(images) // 2])
        study = {tag: first[tag] for tag in STUDY_TAGS & first.keys()}
        study = _by_sheet(group) | study | _of_study(images)
        study["00081190"] = _uri(address)
        if level == "study":
            yield study
            return
        for uid, members in groupby(images, key=lambda image: image.series_uid):
            of_series = list(members)
            first = await self._attributes(of_series[0])
            series = {tag: first[tag] for tag in _SERIES_TAGS & first.keys()}
            series |= {"00201209": _one("IS", len(of_series))}
            series["00081190"] = _uri(f"{address}/series/{uid}")
            if level == "series":
                yield study | series
                continue
            wanted = query.uids("00080018")
            for image in of_series:
                if wanted and image.sop_uid not in wanted:
                    continue
                own = await self._attributes(image)
                own["00081190"] = _uri(f"{address}/series/{uid}/instances/{image.sop_uid}")
                yield study | series | own

    async def _attributes(self, image: Instance) -> Attributes:
        """What the file says that is not large; or what its box said of it."""
        try:
            found = (await self._reading.describe(image)).attributes()
        except (ImageAway, ProtocolError):
            return sketch(image)
        return {tag: value for tag, value in found.items() if "BulkDataURI" not in value}


def _groups(sheets: Sheets, actor: Actor, uids: list[str]) -> list[_Group]:
    """Studies of which something is here, by UID, the newest first."""
    if uids or Role.ADMIN not in actor.roles:
        uids = uids or _on_cases(sheets, actor)
        found = [study for uid in uids for study in studies_named(sheets, actor, uid)]
    else:
        found = sheets.find(Study, limit=MOST_STUDIES, newest=True)
    groups: dict[str, list[Study]] = {}
    for study in found:
        if study.received:
            groups.setdefault(study.uid, []).append(study)
    ordered = sorted(groups.items(), key=lambda pair: max(one.last_ms for one in pair[1]))
    return [_Group(uid, studies) for uid, studies in reversed(ordered)]


def _on_cases(sheets: Sheets, actor: Actor) -> list[str]:
    """UIDs of studies of the cases that this expert is on."""
    keys = {
        key
        for state in State
        if state is not State.CANCELLED
        for case in sheets.find(Consultation, state=state, limit=MOST_STUDIES)
        if is_on(case, actor)
        for key in case.studies
    }
    found = [sheets.get(Study, key) for key in sorted(keys)[:MOST_STUDIES]]
    return sorted({one.uid for one in found if one is not None})


def _images(group: _Group, sheets: Sheets) -> list[Instance]:
    return named_once(image for study in group.studies for image in images_of(sheets, study.id))


def _by_sheet(group: _Group) -> Attributes:
    """What the index knows of a study."""
    study, sent = group.studies[0], _sent(group)
    modalities = sorted({one for each in group.studies for one in each.modalities})
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), sent.name.split("="), strict=False)
    name = {kind: text for kind, text in groups if text}
    return {
        "00080020": _one("DA", study.date),
        "00080050": _one("SH", sent.accession),
        "00080061": {"vr": "CS", "Value": modalities} if modalities else {"vr": "CS"},
        "00081030": _one("LO", study.description),
        "00100010": _one("PN", name),
        "00100020": _one("LO", sent.patient_id),
        "00100030": _one("DA", sent.birth_date),
        "00100040": _one("CS", sent.sex),
        "0020000D": _one("UI", group.uid),
    }


def _sent(group: _Group) -> Sent:
    return group.studies[0].sent


def _of_study(images: list[Instance]) -> Attributes:
    """What is counted."""
    return {
        "00080005": _one("CS", "ISO_IR 192"),
        "00080056": _one("CS", "ONLINE"),
        "00080061": _several("CS", (image.modality for image in images)),
        "00080062": _several("UI", (image.sop_class for image in images)),
        "00201206": _one("IS", len({image.series_uid for image in images})),
        "00201208": _one("IS", len(images)),
    }


def _several(vr: str, values: Iterable[str]) -> Mapping[str, Any]:
    found = sorted(set(values) - {""})
    return {"vr": vr, "Value": found} if found else {"vr": vr}


def _one(vr: str, value: object) -> Mapping[str, Any]:
    return {"vr": vr} if value in ("", {}) else {"vr": vr, "Value": [value]}


def _uri(address: str) -> Mapping[str, Any]:
    return {"vr": "UR", "Value": [address]}


_STUDY_COUNTED: Final = frozenset({"00080005", "00080056", "00080061", "00201206", "00201208"})
_SHOWN: Final = {
    "study": _STUDY_ALWAYS | _STUDY_COUNTED | {"00081190"},
    "series": _SERIES_ALWAYS | {"00080005", "0020000D", "00081190", "00201209"},
    "instance": _INSTANCE_ALWAYS
    | {"00080005", "00080056", "00080060", "0020000D", "0020000E", "00081190"},
}


def _shown(attributes: Attributes, query: Query, level: str) -> Attributes:
    """What always comes, and what was asked for."""
    if ALL in query.include:
        return dict(sorted(attributes.items()))
    always = _SHOWN[level]
    return {
        tag: value for tag, value in sorted(attributes.items()) if tag in always or query.wants(tag)
    }
