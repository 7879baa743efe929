"""A CA, signing certificates sound and unsound, and the expert's browser, in a few lines each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from lianzhen_protocol import opinion
from lianzhen_protocol.opinion import Document, OpinionSigned, PrintedPatient, Signer
from lianzhen_protocol.opinion_trust import (
    CONFIRMED_POLICY,
    LIST_SCOPE,
    OPINION_SIGNING,
    Holder,
    fingerprint,
    subject,
)

NOW_MS: Final = 1_767_225_600_000
NOW: Final = datetime.fromtimestamp(NOW_MS / 1000, UTC)
DAY: Final = timedelta(days=1)
ALGORITHM: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
HOLDER: Final = Holder("01940000000070008000000000000001", "吴𠮷", "主任医师", "110520000012345")
VERIFY_URL: Final = "https://hub.example/verify"


def key_of(number: int) -> ec.EllipticCurvePrivateKey:
    """A fixed key, for vectors."""
    return ec.derive_private_key(number, ec.SECP256R1())


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def usage(*names: str) -> x509.KeyUsage:
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in names for name in every})


class TestCa:
    """A root like the hub's. Serials, times and signatures are fixed, so its output is too."""

    __test__ = False

    def __init__(self, number: int = 7, name: str = "Lianzhen test CA") -> None:
        self.key = key_of(number)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder(self.name, self.name, self.key.public_key(), number)
            .not_valid_before(NOW - 1000 * DAY)
            .not_valid_after(NOW + 3000 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage("key_cert_sign", "crl_sign"), critical=True)
        )
        self.root = self._sign(builder)
        self.pem = self.root.public_bytes(Encoding.PEM).decode()

    def certificate(
        self,
        key: ec.EllipticCurvePrivateKey,
        *,
        holder: Holder = HOLDER,
        serial: int = 0x1001,
        purposes: tuple[ObjectIdentifier, ...] = (OPINION_SIGNING,),
        policies: tuple[ObjectIdentifier, ...] = (CONFIRMED_POLICY,),
        uses: tuple[str, ...] = ("content_commitment",),
        begin: datetime = NOW - DAY,
        end: datetime = NOW + 365 * DAY,
        ca: bool = False,
    ) -> bytes:
        """A certificate, DER; by default a sound one."""
        builder = (
            x509.CertificateBuilder(self.name, subject(holder), key.public_key(), serial)
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage(*uses), critical=True)
            .add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=True)
        )
        if policies:
            found = [x509.PolicyInformation(policy, None) for policy in policies]
            builder = builder.add_extension(x509.CertificatePolicies(found), critical=False)
        return self._sign(builder).public_bytes(Encoding.DER)

    def revocations(
        self,
        revoked: dict[int, datetime] | None = None,
        *,
        leaked: bool = False,
        number: int = 1,
        made: datetime = NOW,
        scope: str = LIST_SCOPE,
    ) -> bytes:
        """A revocation list, DER."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(made)
            .next_update(made + 8 * DAY)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(
                x509.IssuingDistributionPoint(
                    [x509.UniformResourceIdentifier(scope)], None, False, False, None, False, False
                ),
                critical=True,
            )
        )
        for serial, when in (revoked or {}).items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
            if leaked:
                reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
                entry = entry.add_extension(reason, critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self.key, hashes.SHA256(), ecdsa_deterministic=True)
        return signed.public_bytes(Encoding.DER)

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self.key, hashes.SHA256(), ecdsa_deterministic=True)


def document(certificate: bytes, *, holder: Holder = HOLDER, **more: object) -> Document:
    """An opinion about somebody with rare characters in the name."""
    fields: dict[str, object] = {
        "id": "01940000000070008000000000000002",
        "consultation": "01940000000070008000000000000003",
        "amends": None,
        "clinic": "湄潭县黄家坝镇卫生院",
        "department": "呼吸内科",
        "patient": PrintedPatient(
            id="01940000000070008000000000000004",
            name="䶮㙍𠮷",
            sex="女",
            birth_date="1949-12-31",
            number="110105********002X",
        ),
        "findings": "右下肺斑片影，边界不清。\n双侧胸腔未见积液。",
        "conclusion": '社区获得性肺炎（"右下叶"），CURB-65 1 分。',
        "advice": "1. 抗感染治疗 7 天；\n2. 48 小时复评，SpO₂ < 92 % 时转诊。",
        "signed_ms": NOW_MS,
        "signer": Signer(
            id=holder.account,
            name=holder.name,
            title=holder.title,
            licence=holder.licence,
            certificate=fingerprint(certificate),
        ),
    }
    return Document(**(fields | more))  # type: ignore[arg-type]


def sign(key: ec.EllipticCurvePrivateKey, found: bytes) -> bytes:
    """Raw r and s, as WebCrypto would give them (but deterministic)."""
    suite = opinion.ECDSA_P256_SHA256
    return opinion.raw_signature(key.sign(opinion.signature_input(suite, found), ALGORITHM))


def signed(
    key: ec.EllipticCurvePrivateKey, certificate: bytes, found: Document | None = None
) -> OpinionSigned:
    """An opinion as it goes to the clinic."""
    text = opinion.document_bytes(found or document(certificate))
    return OpinionSigned(
        document=text,
        suite=opinion.ECDSA_P256_SHA256,
        signature=sign(key, text),
        certificate=certificate,
        verify_url=VERIFY_URL,
    )
