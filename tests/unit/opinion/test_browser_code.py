"""What runs in an expert's browser (web/src/lib/signing.ts), by itself in Node, against Python."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

import expert
from lianzhen_protocol import opinion
from support.lab_fixtures import needs_tool
from support.signers import key_of

ROOT = Path(__file__).parents[3]
VECTORS: Any = json.loads((ROOT / "tests/data/vectors/opinion-v1.json").read_text(encoding="utf-8"))
ACCOUNT = "01940000000070008000000000000001"
CHALLENGE = "5a" * 32
PASSPHRASE = "ﾎﾟｽﾄ office 四只猫"  # half-width, which NFKC makes full-width
PROGRAM = """
const given = JSON.parse(process.argv[2]);
const m = await import(given.module);
const refused = (value) => { try { m.canonical(value); return false; } catch { return true; } };
const wrong = m
  .sign(given.wrapped, 'not the passphrase', 1, given.document)
  .catch((error) => error instanceof m.WrongPassphrase);
console.log(JSON.stringify({
  canonical: given.canonical.map((text) => m.hex(m.utf8(m.canonical(JSON.parse(text))))),
  refused: [1.5, true, 2 ** 53, '\\ud842', undefined, [NaN], {a: false}].map(refused),
  input: m.hex(m.signatureInput(1, given.document)),
  digest: await m.sha256(m.signatureInput(1, given.document)),
  made: await m.makeKey(given.challenge, given.account, given.passphrase),
  signature: await m.sign(given.wrapped, given.passphrase, 1, given.document),
  wrong: await wrong,
  suite: await m.sign(given.wrapped, given.passphrase, 2, given.document).catch(() => 'refused'),
}));
"""

pytestmark = needs_tool("node")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All that the module makes of the vectors, in one run."""
    program = tmp_path_factory.mktemp("node") / "run.mjs"
    program.write_text(PROGRAM, encoding="utf-8")
    given = {
        "module": (ROOT / "web/src/lib/signing.ts").as_uri(),
        "canonical": [case["json"] for case in VECTORS["canonical"]],
        "document": VECTORS["document"],
        "challenge": CHALLENGE,
        "account": ACCOUNT,
        "passphrase": PASSPHRASE,
        "wrapped": expert.wrap(key_of(9), PASSPHRASE),
    }
    command = ["node", "--disable-warning=ExperimentalWarning", str(program), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_makes_the_canonical_texts_of_the_vectors(said: Any) -> None:
    assert said["canonical"] == [case["hex"] for case in VECTORS["canonical"]]
    assert all(said["refused"])


def test_it_signs_over_the_bytes_of_the_vectors(said: Any) -> None:
    assert said["input"] == VECTORS["signature_input"]
    assert said["digest"] == VECTORS["digest"]


def test_its_signature_is_verified_and_another_passphrase_or_suite_signs_nothing(said: Any) -> None:
    key, document = key_of(9).public_key(), VECTORS["document"].encode()
    opinion.check_signature(key, 1, document, bytes.fromhex(said["signature"]))
    assert (said["wrong"], said["suite"]) == (True, "refused")


def test_its_key_is_proved_and_opens_with_the_passphrase_alone(said: Any) -> None:
    made = said["made"]
    spki, proof = bytes.fromhex(made["spki"]), bytes.fromhex(made["proof"])
    public = opinion.check_proof(spki, bytes.fromhex(CHALLENGE), ACCOUNT, proof)
    assert made["wrapped"]["iterations"] >= 600_000
    assert expert.unwrap(made["wrapped"], PASSPHRASE).public_key() == public
    with pytest.raises(InvalidTag):
        expert.unwrap(made["wrapped"], "another")
