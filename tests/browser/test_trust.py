"""A clinic's PC and the box, by Chromium's own judgement of certificates, nothing switched off.

The PC has an NSS database of its own; what is installed in it is what the setup page gave.
"""

import contextlib
import ipaddress
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.sync_api import BrowserContext, Playwright, expect
from playwright.sync_api import Error as PageError

from support.browser import CHROMIUM, FLAGS, Site
from support.lab_fixtures import needs_tool

pytestmark = needs_tool("certutil")
ELSEWHERE = "bank.example"


@contextlib.contextmanager
def computer(driver: Playwright, home: Path, authority: bytes | None) -> Iterator[BrowserContext]:
    """A PC whose user installed ``authority`` (DER), or did not."""
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    store = f"sql:{database}"
    subprocess.run(["certutil", "-N", "-d", store, "--empty-password"], check=True)
    if authority is not None:
        file = home / "lianzhen-box.crt"
        file.write_bytes(authority)
        install = ["-A", "-t", "C,,", "-n", "Lianzhen", "-i", str(file)]
        subprocess.run(["certutil", "-d", store, *install], check=True)
    context = driver.chromium.launch_persistent_context(
        str(home / "profile"),
        executable_path=CHROMIUM,
        args=[*FLAGS, f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
    )
    try:
        yield context
    finally:
        context.close()


@pytest.fixture(scope="module")
def authority(site: Site) -> bytes:
    """What the plain setup page gives."""
    url = f"http://127.0.0.1:{site.box.setup_port}/lianzhen-box.crt"
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["Content-Type"] == "application/x-x509-ca-cert"
        return bytes(answer.read())


@pytest.fixture(scope="module")
def trusting(
    driver: Playwright, authority: bytes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    with computer(driver, tmp_path_factory.mktemp("pc"), authority) as context:
        yield context


def test_the_fingerprint_is_the_one_the_box_says(site: Site, authority: bytes) -> None:
    digest = sha256(authority).hexdigest().upper()
    shown = site.box.status()["browser_fingerprint"]
    assert shown.replace(":", "") == digest
    with urllib.request.urlopen(f"http://127.0.0.1:{site.box.setup_port}/") as answer:
        assert shown in answer.read().decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_installed_it_opens_without_a_warning_and_is_secure(
    site: Site, trusting: BrowserContext, host: str
) -> None:
    page = trusting.new_page()
    page.goto(f"https://{host}:{site.box.console_port}/login")
    expect(page.get_by_role("button", name="登录")).to_be_visible()
    assert page.evaluate("window.isSecureContext") is True
    assert page.evaluate("crypto.subtle !== undefined")
    tracks = "navigator.mediaDevices.getUserMedia({video: true}).then((s) => s.getTracks().length)"
    assert page.evaluate(tracks) == 1
    page.close()


def test_without_it_the_browser_warns(site: Site, driver: Playwright, tmp_path: Path) -> None:
    with computer(driver, tmp_path, None) as context:
        page = context.new_page()
        with pytest.raises(PageError, match="ERR_CERT_AUTHORITY_INVALID"):
            page.goto(f"https://127.0.0.1:{site.box.console_port}/login")


def stolen(site: Site, names: list[x509.GeneralName], file: Path) -> Path:
    """A certificate that a thief of the box's authority makes."""
    content = (site.box.state / "browser" / "root.pem").read_bytes()
    root_key = serialization.load_pem_private_key(content, None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    root = x509.load_pem_x509_certificate(content)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    made = (
        x509.CertificateBuilder(root.subject, subject, key.public_key(), 99)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def impostor(pair: Path) -> Iterator[int]:
    """A server with that certificate; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_stolen_it_vouches_for_no_other_name(
    site: Site, trusting: BrowserContext, tmp_path: Path
) -> None:
    page = trusting.new_page()
    own = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    with impostor(stolen(site, [own], tmp_path / "own.pem")) as port:
        page.goto(f"https://127.0.0.1:{port}/")  # the control: all else about it is good
    with (
        impostor(stolen(site, [x509.DNSName(ELSEWHERE)], tmp_path / "other.pem")) as port,
        pytest.raises(PageError, match="ERR_CERT_INVALID"),
    ):
        page.goto(f"https://{ELSEWHERE}:{port}/")
    page.close()
