"""This device's key, its certificate, and what a key is called.

A device is its public key: the certificate is only the envelope that TLS
wants around it, so its dates and names mean nothing and it may be made anew
from the key at any time (docs/protocol.rst, "Who speaks").  A key is named by
the SHA-256 of its SubjectPublicKeyInfo, in base32.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from datetime import datetime

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from lanxfer.errors import AuthFailed, BadState
from lanxfer.state import CERTIFICATE_FILE, KEY_FILE, StateFolder
from lanxfer.wire import limits

CERTIFICATE_MAX = 16 * limits.KIB
"""Bytes of one certificate in DER; ours has about 300.  OpenSSL takes 100 KiB for a whole chain."""

# Clocks on a LAN are wrong often enough that no side looks at these.
_VALID_FROM = datetime(2000, 1, 1)
_VALID_TO = datetime(9999, 12, 31, 23, 59, 59)


@frozen
class Identity:
    """Who this device is: the name of its key, and what TLS needs to prove it."""

    key: str
    certificate_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)


def load_identity(state: StateFolder) -> Identity:
    """The identity kept in this folder, made at first use.

    Two processes that start at once end with the same one.  A lost
    certificate is made anew around the key.  Raises BadState where a file is
    damaged, readable by others, or the key alone is missing: a new key is a
    new device to everybody who knows the old one, so nobody gets one silently.
    """
    # First without the lock, so that a folder on a read-only disk still serves.
    return _read(state) or _create(state)


def key_of_certificate(der: bytes) -> str:
    """The name of the public key in a certificate; AuthFailed where it cannot be read."""
    try:
        return _name(x509.load_der_x509_certificate(der).public_key())
    except Exception as error:
        # Whatever a parser says to bytes that a stranger chose.
        raise AuthFailed("The certificate of the other side cannot be read.") from error


def _name(public: PublicKeyTypes) -> str:
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b32encode(hashlib.sha256(der).digest()).decode("ascii").rstrip("=")


def _read(state: StateFolder) -> Identity | None:
    """None where there is anything to be made."""
    # The certificate first: whoever makes both writes the key first, so that a
    # certificate without a key is never a matter of having looked too early.
    certificate_pem = state.read(CERTIFICATE_FILE)
    key_pem = state.read(KEY_FILE, secret=True)
    if key_pem is None:
        if certificate_pem is not None:
            raise BadState(
                f"The key of this device, {_shown(state, KEY_FILE)}, is gone. Put it back from a"
                f" backup; or remove {_shown(state, CERTIFICATE_FILE)} to become a new device,"
                " which every peer has to pair with again."
            )
        return None
    key = _load_key(state, key_pem)
    if certificate_pem is None:
        return None
    _check_certificate(state, certificate_pem, key)
    return Identity(_name(key.public_key()), certificate_pem, key_pem)


def _create(state: StateFolder) -> Identity:
    with state.exclusive():
        found = _read(state)  # another process may have been quicker
        if found is not None:
            return found
        key_pem = state.read(KEY_FILE, secret=True)
        if key_pem is None:
            key_pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
            state.write(KEY_FILE, key_pem)
        key = _load_key(state, key_pem)
        certificate_pem = _make_certificate(key)
        state.write(CERTIFICATE_FILE, certificate_pem)
    return Identity(_name(key.public_key()), certificate_pem, key_pem)


def _load_key(state: StateFolder, pem: bytes) -> ec.EllipticCurvePrivateKey:
    # The library compares the private half with the public one, so a flipped bit shows.
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged_key(state) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _damaged_key(state)
    return key


def _damaged_key(state: StateFolder) -> BadState:
    return BadState(
        f"The key of this device, {_shown(state, KEY_FILE)}, is damaged or of a kind lanxfer does"
        f" not use. Put it back from a backup; or move it and {CERTIFICATE_FILE} away to become a"
        " new device, which every peer has to pair with again."
    )


def _make_certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lanxfer")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_TO)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def _check_certificate(state: StateFolder, pem: bytes, key: ec.EllipticCurvePrivateKey) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        if certificate.public_key() != key.public_key():
            raise ValueError("the certificate of another key")
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise BadState(
            f"The certificate {_shown(state, CERTIFICATE_FILE)} is damaged or does not belong to"
            " the key beside it; remove it, and a new one is made. The key stays the same, so no"
            " peer has to pair again."
        ) from error


def _shown(state: StateFolder, name: str) -> str:
    return shlex.quote(state.file(name))
