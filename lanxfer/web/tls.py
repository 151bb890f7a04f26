"""The page's own key and certificate; nothing that other devices know has to do with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto
from twisted.internet.ssl import CertificateOptions, TLSVersion

from lanxfer.errors import BadState
from lanxfer.state import StateFolder

KEY_FILE = "web-key.pem"
CERTIFICATE_FILE = "web-certificate.pem"

LIFETIME = timedelta(days=800)
"""Browsers of telephones take no certificate that is good for longer."""
RENEW = timedelta(days=60)


@frozen
class PageKey:
    """What the page proves itself with; ``fingerprint`` is what browsers show of it."""

    options: CertificateOptions
    fingerprint: str


def load_page_key(state: StateFolder, names: Sequence[str]) -> PageKey:
    """Kept in the state folder, made at first use, renewed before it runs out.

    A new certificate for the same key means that browsers ask again.
    """
    key_pem = state.read(KEY_FILE, secret=True)
    certificate_pem = state.read(CERTIFICATE_FILE)
    try:
        if key_pem is None:
            key = ec.generate_private_key(ec.SECP256R1())
            key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            state.write(KEY_FILE, key_pem)
            certificate_pem = None
        loaded = load_pem_private_key(key_pem, password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError("a key of another kind")
        if certificate_pem is None or not _good(certificate_pem, loaded):
            certificate_pem = _certificate(loaded, names)
            state.write(CERTIFICATE_FILE, certificate_pem)
        certificate = crypto.load_certificate(crypto.FILETYPE_PEM, certificate_pem)
    except (ValueError, TypeError, crypto.Error) as error:
        raise BadState(
            f"The key of the page, {state.file(KEY_FILE)}, is damaged. Remove it, and a new one is"
            " made; browsers then ask once more whether they should trust it."
        ) from error
    options = CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(loaded),
        certificate=certificate,
        raiseMinimumTo=TLSVersion.TLSv1_3,
        acceptableProtocols=[b"http/1.1"],
    )
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    digest = hashlib.sha256(der).hexdigest().upper()
    pairs = [digest[at : at + 2] for at in range(0, len(digest), 2)]
    return PageKey(options, ":".join(pairs))


def _good(pem: bytes, key: ec.EllipticCurvePrivateKey) -> bool:
    certificate = x509.load_pem_x509_certificate(pem)
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    return left > RENEW and certificate.public_key() == key.public_key()


def _certificate(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lanxfer page")])
    begin = datetime.now(UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(list(map(_name, names))), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
