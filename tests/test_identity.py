from __future__ import annotations

import base64
import hashlib
import multiprocessing
import os
import stat
from contextlib import suppress
from datetime import datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from lanxfer.errors import AuthFailed, BadConfig, BadState
from lanxfer.identity import Identity, key_of_certificate, load_identity
from lanxfer.keys import format_key, parse_key, short_key, squeeze_key
from lanxfer.state import StateFolder

if TYPE_CHECKING:
    Answers: TypeAlias = multiprocessing.Queue[tuple[str, bytes]]

keys = st.binary(min_size=32, max_size=32).map(
    lambda digest: base64.b32encode(digest).decode().rstrip("=")
)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(str(tmp_path / "state"))


def der_of(identity: Identity) -> bytes:
    return x509.load_pem_x509_certificate(identity.certificate_pem).public_bytes(Encoding.DER)


def load_in_process(path: str, barrier: Barrier, answers: Answers) -> None:
    barrier.wait()
    found = load_identity(StateFolder(path))
    answers.put((found.key, found.certificate_pem))


class LoadIdentityTests:
    def test_first_use(self, folder: StateFolder) -> None:
        """At first use a key and a certificate are made, the key for this user's eyes only."""
        made = load_identity(folder)
        assert sorted(os.listdir(folder.path)) == ["certificate.pem", "change.lock", "key.pem"]
        assert stat.S_IMODE(os.stat(folder.file("key.pem")).st_mode) == 0o600
        certificate = x509.load_pem_x509_certificate(made.certificate_pem)
        assert certificate.subject.rfc4514_string() == "CN=lanxfer"
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        assert certificate.not_valid_before_utc.year == 2000
        assert certificate.not_valid_after_utc.year == 9999

    def test_name_of_the_key(self, folder: StateFolder) -> None:
        """The key is named by the SHA-256 of its public half, in base32 without padding."""
        made = load_identity(folder)
        spki = (
            load_pem_private_key(made.key_pem, None)
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
        expected = base64.b32encode(hashlib.sha256(spki).digest()).decode()
        assert made.key == expected.strip("=")
        assert len(made.key) == 52
        assert key_of_certificate(der_of(made)) == made.key

    def test_again(self, folder: StateFolder) -> None:
        """The next start finds the same identity."""
        assert load_identity(folder) == load_identity(StateFolder(folder.path))

    def test_different_folders(self, folder: StateFolder, tmp_path: Path) -> None:
        """Two folders are two devices."""
        assert load_identity(folder).key != load_identity(StateFolder(str(tmp_path / "b"))).key

    # covers: A11
    def test_repr(self, folder: StateFolder) -> None:
        """Printing an identity does not print its key."""
        made = load_identity(folder)
        assert repr(made) == f"Identity(key='{made.key}')"

    def test_two_at_once(self, folder: StateFolder) -> None:
        """Processes that start at once end with one identity."""
        barrier = multiprocessing.Barrier(3)
        answers: Answers = multiprocessing.Queue()
        processes = [
            multiprocessing.Process(target=load_in_process, args=(folder.path, barrier, answers))
            for _ in range(3)
        ]
        for each in processes:
            each.start()
        found = {answers.get(timeout=20) for _ in processes}
        for each in processes:
            each.join()
        kept = load_identity(folder)
        assert found == {(kept.key, kept.certificate_pem)}

    # covers: K07
    def test_lost_certificate(self, folder: StateFolder) -> None:
        """A lost certificate is made anew; the device stays the same."""
        made = load_identity(folder)
        os.unlink(folder.file("certificate.pem"))
        again = load_identity(folder)
        assert (again.key, again.key_pem) == (made.key, made.key_pem)
        assert again.certificate_pem != made.certificate_pem
        assert key_of_certificate(der_of(again)) == made.key

    # covers: K07
    def test_lost_key(self, folder: StateFolder) -> None:
        """A lost key is said, not replaced: that would be another device."""
        load_identity(folder)
        os.unlink(folder.file("key.pem"))
        with pytest.raises(BadState, match="backup"):
            load_identity(folder)
        assert not os.path.exists(folder.file("key.pem"))

    # covers: A11
    @pytest.mark.skipif(os.name == "nt", reason="modes of POSIX systems")
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
    def test_loose_key(self, folder: StateFolder, mode: int) -> None:
        """A key that others can read is refused."""
        load_identity(folder)
        os.chmod(folder.file("key.pem"), mode)
        with pytest.raises(BadState, match="chmod 600"):
            load_identity(folder)

    # covers: K06
    @pytest.mark.parametrize("name", ["key.pem", "certificate.pem"])
    def test_damage(self, folder: StateFolder, name: str) -> None:
        """Whatever byte is damaged: it is refused, or it did not matter; nothing is repaired."""
        made = load_identity(folder)
        whole = Path(folder.file(name)).read_bytes()
        damaged = [whole[:at] for at in range(0, len(whole) - 1, 16)]
        for at in range(len(whole)):
            bit = 1 << at % 7
            damaged.append(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        refused = 0
        for content in damaged:
            Path(folder.file(name)).write_bytes(content)
            try:
                found = load_identity(folder)
            except BadState:
                refused += 1
            else:
                assert found.key == made.key
                assert key_of_certificate(der_of(found)) == made.key
            assert Path(folder.file(name)).read_bytes() == content
        assert refused > 0.9 * len(damaged)

    # covers: K07
    def test_other_certificate(self, folder: StateFolder, tmp_path: Path) -> None:
        """A certificate that belongs to another key is refused."""
        load_identity(folder)
        other = load_identity(StateFolder(str(tmp_path / "other")))
        folder.write("certificate.pem", other.certificate_pem)
        with pytest.raises(BadState, match="remove it"):
            load_identity(folder)

    # covers: K07
    def test_foreign_keys(self, folder: StateFolder) -> None:
        """Keys of other kinds, encrypted ones, and none at all are refused."""
        usual = ec.generate_private_key(ec.SECP256R1())
        plain, pkcs8 = NoEncryption(), PrivateFormat.PKCS8
        for content in (
            b"",
            b"hello",
            usual.private_bytes(Encoding.PEM, pkcs8, BestAvailableEncryption(b"x")),
            ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, pkcs8, plain),
            ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, pkcs8, plain),
        ):
            folder.write("key.pem", content)
            with pytest.raises(BadState, match="damaged or of a kind"):
                load_identity(folder)
            assert folder.read("key.pem") == content
            assert folder.read("certificate.pem") is None

    # covers: R14
    def test_read_only(self, folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        """An identity that is there is loaded without writing a byte."""
        made = load_identity(folder)
        monkeypatch.setattr(StateFolder, "write", None)
        monkeypatch.setattr(StateFolder, "exclusive", None)
        assert load_identity(folder) == made

    def test_crash_between_the_files(self, folder: StateFolder) -> None:
        """After a crash between key and certificate the key that was written is the one."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        folder.write("key.pem", pem)
        assert load_identity(folder).key_pem == pem


class KeyOfCertificateTests:
    def test_any_kind_of_key(self) -> None:
        """The key counts, whatever its kind and whoever signed the certificate."""
        authority = ed25519.Ed25519PrivateKey.generate()
        key = rsa.generate_private_key(65537, 2048).public_key()
        name = x509.Name([])
        der = (
            x509.CertificateBuilder(name, name, key, 1)
            .not_valid_before(datetime(1999, 1, 1))
            .not_valid_after(datetime(1999, 1, 2))
            .sign(authority, None)
            .public_bytes(Encoding.DER)
        )
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert base64.b32decode(key_of_certificate(der) + "====") == hashlib.sha256(spki).digest()

    # covers: T04
    def test_garbage(self, folder: StateFolder) -> None:
        """Bytes that are no certificate prove nothing."""
        whole = der_of(load_identity(folder))
        for garbage in (b"", b"\x30\x80", b"x" * 1000, whole[:-1], whole + b"\0"):
            with pytest.raises(AuthFailed):
                key_of_certificate(garbage)

    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """A damaged certificate gives a key or AuthFailed, nothing else."""
        broken = bytearray(_SAMPLE)
        for _ in range(data.draw(st.integers(1, 3))):
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
        with suppress(AuthFailed):
            assert len(key_of_certificate(bytes(broken))) == 52


class KeyTextTests:
    @given(keys)
    def test_round_trip(self, key: str) -> None:
        """What format_key writes is read back, in any case and with any grouping."""
        shown = format_key(key)
        assert len(shown.split("-")) == 13
        assert {len(group) for group in shown.split("-")} == {4}
        for text in (key, shown, shown.lower(), shown.replace("-", " "), f" {key[:9]}-{key[9:]}\n"):
            assert parse_key(text) == key

    def test_short(self) -> None:
        """Eight characters are enough to look at."""
        assert short_key("ABCDEFGH" + "A" * 44) == "ABCD-EFGH"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "nas",
            "A" * 51,
            "A" * 53,
            "A" * 51 + "B",  # four bits that no key has
            "A" * 50 + "1A",
            "A" * 50 + "0A",
            "A" * 50 + "=A",
            "A" * 51 + "\u0410",  # the Cyrillic letter that looks like it
            "\u017f" * 51 + "A",  # a long s, which becomes S in upper case
            "A" * 51 + "\0",
            "A" * 100_000,
        ],
    )
    def test_refused(self, text: str) -> None:
        """What is no key is refused with a sentence that does not repeat it."""
        with pytest.raises(BadConfig) as caught:
            parse_key(text)
        assert len(str(caught.value)) < 200

    @given(st.text(max_size=60))
    def test_anything(self, text: str) -> None:
        """Any text is a key or BadConfig."""
        try:
            key = parse_key(text)
        except BadConfig:
            return
        assert format_key(key).replace("-", "") == squeeze_key(text) == key


def _sample() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(datetime(2000, 1, 1))
        .not_valid_after(datetime(2000, 1, 2))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.DER)


_SAMPLE = _sample()
