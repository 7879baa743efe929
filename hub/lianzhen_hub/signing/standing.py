"""How signed opinions stand at the hub, by the revocation list in use."""

from cryptography import x509

from lianzhen_protocol.opinion import OpinionSigned
from lianzhen_protocol.opinion_sheets import Opinion, Revocations, settle
from lianzhen_protocol.opinion_trust import RevocationList, Verdict, fingerprint, judge
from lianzhen_protocol.sheets import Sheets


def verdict_now(
    sheets: Sheets, anchors: list[x509.Certificate], signed: OpinionSigned, now_ms: int
) -> Verdict:
    """Judge it from its bytes, as a box does."""
    held = sheets.get(Revocations, Revocations.KEY)
    listed = RevocationList(held.revocations, anchors) if held else None
    return judge(signed, anchors, listed, now_ms)


def rejudge(
    sheets: Sheets, anchors: list[x509.Certificate], certificate: bytes, now_ms: int
) -> None:
    """Write the verdicts anew on what was signed under a certificate that was revoked now."""
    for opinion in sheets.find_token(Opinion, "certificate", fingerprint(certificate)):
        settle(sheets, opinion.id, verdict_now(sheets, anchors, opinion.signed, now_ms))
