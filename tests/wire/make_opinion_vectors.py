"""Makes tests/data/vectors/opinion-v1.json:
``PYTHONPATH=tests python tests/wire/make_opinion_vectors.py``.

For whoever writes another signer or verifier: canonical texts, one signed opinion with its CA,
certificate and revocation lists, and the printed code. Keys and signatures are fixed (RFC 6979).
"""

import json
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from lianzhen_protocol import opinion
from lianzhen_protocol.canonical import canonical
from support.signers import (
    ALGORITHM,
    DAY,
    NOW,
    NOW_MS,
    VERIFY_URL,
    TestCa,
    key_of,
    signed,
    spki,
)

PATH: Final = Path(__file__).parent.parent / "data" / "vectors" / "opinion-v1.json"
SIGNER: Final = 0xC0FFEE
CANONICAL: Final[list[Any]] = [
    None,
    0,
    -1,
    (1 << 53) - 1,
    "",
    "䶮㙍𠮷",
    '"\\/\b\f\n\r\t\x00\x1f\x7f\u2028',
    [],
    {},
    [{"b": 1, "a": [None, "x"]}, []],
    {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\xf6": 7},
]


def vectors() -> dict[str, Any]:
    """The file's content."""
    ca, key = TestCa(), key_of(SIGNER)
    certificate = ca.certificate(key)
    found = signed(key, certificate)
    digest = opinion.digest(found.suite, found.document)
    code = opinion.PrintedCode(
        opinion.read_document(found.document).id, found.suite, digest, found.signature
    )
    challenge, account = bytes(range(32)), "01940000000070008000000000000001"
    proof = opinion.proof_input(challenge, account, spki(key))
    return {
        "canonical": [
            {"json": json.dumps(value), "hex": canonical(value).hex()} for value in CANONICAL
        ],
        "key": f"{SIGNER:064x}",
        "spki": spki(key).hex(),
        "now_ms": NOW_MS,
        "root": ca.root.public_bytes(Encoding.DER).hex(),
        "certificate": certificate.hex(),
        "document": found.document.decode(),
        "suite": found.suite,
        "signature_input": opinion.signature_input(found.suite, found.document).hex(),
        "digest": digest.hex(),
        "signature": found.signature.hex(),
        "signature_der": opinion.der_signature(found.signature).hex(),
        "verify_url": VERIFY_URL,
        "printed_code": opinion.printed_code(VERIFY_URL, code),
        "lists": {
            "nobody": ca.revocations().hex(),
            "before": ca.revocations({0x1001: NOW - DAY / 2}).hex(),
            "after": ca.revocations({0x1001: NOW + DAY}, made=NOW + DAY).hex(),
            "leaked": ca.revocations({0x1001: NOW + DAY}, made=NOW + DAY, leaked=True).hex(),
        },
        "proof": {
            "challenge": challenge.hex(),
            "account": account,
            "input": proof.hex(),
            "signature": opinion.raw_signature(key.sign(proof, ALGORITHM)).hex(),
        },
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n")
