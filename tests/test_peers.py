from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanxfer import peers as peers_module
from lanxfer.errors import BadConfig, BadState, KeyChanged, NotFound
from lanxfer.peers import (
    DEFAULT_PORT,
    Peer,
    Peers,
    format_address,
    parse_address,
    parse_name,
)
from lanxfer.state import StateFolder


def key(seed: str) -> str:
    return base64.b32encode(hashlib.sha256(seed.encode()).digest()).decode().rstrip("=")


NAS = Peer("nas", key("nas"), ("nas.local", "10.0.0.2:5"))
PHONE = Peer("Anna's phone", key("phone"))
OLD = Peer("old", "", ("10.0.0.9",), legacy=True)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(str(tmp_path / "state"))


@pytest.fixture
def peers(folder: StateFolder) -> Peers:
    return Peers(folder)


def content(folder: StateFolder) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(folder.read("peers.json") or b"")
    return document


def rewrite(folder: StateFolder, document: dict[str, Any]) -> None:
    """Write what another version of lanxfer may have written, properly signed off."""
    document.pop("check", None)
    document["check"] = peers_module._check(document)
    folder.write("peers.json", json.dumps(document).encode())


class KeepingTests:
    def test_nobody(self, folder: StateFolder, peers: Peers) -> None:
        """At first nobody is known, and asking writes nothing."""
        assert peers.all() == ()
        assert peers.by_key(NAS.key) is None
        assert peers.by_key("") is None
        assert os.listdir(folder.path) == []

    def test_kept(self, folder: StateFolder, peers: Peers) -> None:
        """What was added is there after a restart, in a private file, in order of names."""
        for each in (OLD, NAS, PHONE):
            assert peers.add(each) == each
        again = Peers(folder)
        assert again.all() == (PHONE, NAS, OLD)
        assert again.by_key(NAS.key) == NAS
        assert os.stat(folder.file("peers.json")).st_mode & 0o077 == 0

    def test_spellings(self, peers: Peers) -> None:
        """A key in groups and lower case, and a name in another normal form, become the usual."""
        shown = "-".join(NAS.key.lower()[at : at + 4] for at in range(0, 52, 4))
        kept = peers.add(Peer("Ku\u0308che", shown))
        assert kept == Peer("K\u00fcche", NAS.key)
        assert peers.find("Ku\u0308che") == kept

    def test_more_addresses(self, peers: Peers) -> None:
        """Added again, a peer keeps its old addresses after the new ones, and not for ever."""
        peers.add(NAS)
        assert peers.add(NAS._replace(addresses=("[::1]:7",))).addresses == (
            "[::1]:7",
            "nas.local",
            "10.0.0.2:5",
        )
        for number in range(20):
            peers.add(NAS._replace(addresses=(f"10.0.1.{number}",)))
        assert len(peers.all()[0].addresses) == peers_module.ADDRESSES_MAX
        assert peers.add(NAS._replace(addresses=("x",)), replace=True).addresses == ("x",)

    # covers: A07
    def test_key_changed(self, folder: StateFolder, peers: Peers) -> None:
        """A known name with another key is refused, naming both; the old pin stays."""
        peers.add(NAS)
        impostor = NAS._replace(key=key("impostor"))
        with pytest.raises(KeyChanged) as caught:
            peers.add(impostor)
        for each in (NAS.key, impostor.key):
            assert f"{each[:4]}-{each[4:8]}" in str(caught.value)
        assert Peers(folder).all() == (NAS,)
        peers.add(impostor, replace=True)
        assert Peers(folder).all() == (impostor,)
        assert peers.by_key(NAS.key) is None

    # covers: A06
    def test_no_way_back_to_plain_text(self, peers: Peers) -> None:
        """A peer with a key does not become one without by being added again."""
        peers.add(NAS)
        with pytest.raises(KeyChanged, match="ae device"):
            peers.add(Peer("nas", "", legacy=True))
        with pytest.raises(BadConfig, match="plain text"):
            peers.add(NAS._replace(legacy=True))
        assert peers.all() == (NAS,)

    def test_known_by_another_name(self, peers: Peers) -> None:
        """One key has one name, also when it is to be replaced."""
        peers.add(NAS)
        for replace in (False, True):
            with pytest.raises(BadConfig, match="known as 'nas'"):
                peers.add(NAS._replace(name="nas2"), replace)
        assert peers.add(OLD) and peers.add(OLD._replace(name="older"))

    def test_nonsense(self, peers: Peers) -> None:
        """A peer without a key, with a bad name or a bad address is refused."""
        for each in (
            Peer("nas", ""),
            Peer("nas", "ABCD"),
            Peer("", NAS.key),
            Peer("nas", NAS.key, ("a b",)),
        ):
            with pytest.raises(BadConfig):
                peers.add(each)
        assert peers.all() == ()

    def test_bounded(self, peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is an end to how many peers are kept."""
        monkeypatch.setattr(peers_module, "PEERS_MAX", 2)
        peers.add(NAS)
        peers.add(PHONE)
        with pytest.raises(BadConfig, match="forget"):
            peers.add(OLD)
        peers.add(NAS._replace(addresses=("x",)))

    # covers: A08
    def test_forget(self, folder: StateFolder, peers: Peers) -> None:
        """Who is forgotten is not known any more."""
        peers.add(NAS)
        with pytest.raises(NotFound):
            peers.forget("na")
        assert peers.forget("nas") == NAS
        assert peers.by_key(NAS.key) is None
        assert Peers(folder).all() == ()
        with pytest.raises(NotFound):
            peers.forget("nas")

    def test_nothing_new(self, folder: StateFolder, peers: Peers) -> None:
        """To add what is known already writes nothing."""
        peers.add(NAS)
        before = os.stat(folder.file("peers.json")).st_ino
        assert peers.add(NAS) == NAS
        assert os.stat(folder.file("peers.json")).st_ino == before

    def test_remember_address(self, folder: StateFolder, peers: Peers) -> None:
        """The address that worked goes in front; nothing is written where it is there already."""
        peers.add(NAS)
        peers.remember_address(NAS.key, "10.0.0.2:5")
        assert Peers(folder).find("nas").addresses == ("10.0.0.2:5", "nas.local")
        before = os.stat(folder.file("peers.json")).st_ino
        peers.remember_address(NAS.key, "10.0.0.2:5")
        peers.remember_address(PHONE.key, "10.0.0.3")
        peers.remember_address("", "10.0.0.3")
        assert os.stat(folder.file("peers.json")).st_ino == before
        with pytest.raises(BadConfig):
            peers.remember_address(NAS.key, "a b")

    def test_certificate(self, folder: StateFolder, peers: Peers) -> None:
        """The certificate somebody was met with last stands for the key, until another one does."""
        peers.add(NAS)
        peers.add(PHONE)
        assert peers.by_certificate(b"one") is None and peers.by_certificate(b"") is None
        peers.remember_address(NAS.key, "10.0.0.2", b"one")
        assert Peers(folder).by_certificate(b"one") == peers.find("nas")
        before = os.stat(folder.file("peers.json")).st_ino
        peers.remember_address(NAS.key, "10.0.0.2", b"one")
        peers.remember_address(NAS.key, "10.0.0.2")  # where nobody looked at it
        assert os.stat(folder.file("peers.json")).st_ino == before
        peers.add(NAS)
        assert peers.by_certificate(b"one") == peers.find("nas")
        peers.remember_address(NAS.key, "10.0.0.2", b"two")
        assert peers.by_certificate(b"one") is None
        assert peers.by_certificate(b"two") == peers.find("nas")
        peers.add(Peer("nas", key("other")), replace=True)
        assert Peers(folder).by_certificate(b"two") is None


class FindTests:
    def test_by_name_and_prefix(self, peers: Peers) -> None:
        """An exact name or the beginning of a key finds a peer, in any spelling."""
        peers.add(NAS)
        peers.add(PHONE)
        start = NAS.key[:8]
        for text in ("nas", NAS.key, start[:4], start.lower(), f"{start[:4]}-{start[4:]}"):
            assert peers.find(text) == NAS
        assert peers.find("Anna's phone") == PHONE

    def test_not_found(self, peers: Peers) -> None:
        """Too short a prefix, another case of the name, and the unknown find nobody."""
        peers.add(NAS)
        peers.add(OLD)
        for text in ("", "-", NAS.key[:3], "NAS", "na", key("other"), "\0", "x" * 10_000):
            with pytest.raises(NotFound):
                peers.find(text)

    def test_ambiguous(self, peers: Peers) -> None:
        """Where several keys begin like that, their names are said and none is chosen."""
        peers.add(Peer("one", "ABCD" + key("1")[4:]))
        peers.add(Peer("two", "ABCD" + key("2")[4:]))
        with pytest.raises(BadConfig, match="'one', 'two'"):
            peers.find("abcd")
        assert peers.find("ABCD" + key("2")[4:9]).name == "two"

    def test_name_before_prefix(self, peers: Peers) -> None:
        """A name wins over a key that begins the same."""
        peers.add(NAS)
        named = peers.add(Peer(NAS.key[:6], key("other")))
        assert peers.find(NAS.key[:6]) == named


class RefreshTests:
    def test_another_process(self, folder: StateFolder, peers: Peers) -> None:
        """What a command adds or forgets, a running service knows at its next question."""
        command = Peers(folder)
        command.add(NAS)
        assert peers.by_key(NAS.key) == NAS
        assert peers.refresh() is False
        command.forget("nas")
        assert peers.refresh() is True
        assert peers.by_key(NAS.key) is None

    def test_both_write(self, folder: StateFolder, peers: Peers) -> None:
        """Two that add at the same time lose nobody."""

        def add_some(start: int) -> None:
            mine = Peers(folder)
            for number in range(start, start + 10):
                mine.add(Peer(f"p{number}", key(str(number))))

        threads = [threading.Thread(target=add_some, args=(start,)) for start in (0, 10, 20)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert {each.name for each in peers.all()} == {f"p{number}" for number in range(30)}

    # covers: R09
    def test_a_slow_disk_holds_up_no_question(
        self, folder: StateFolder, peers: Peers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While one thread waits for the disk, another is answered."""
        peers.add(NAS)
        waiting, go_on = threading.Event(), threading.Event()
        write = folder.write

        def slow_write(name: str, data: bytes) -> None:
            waiting.set()
            assert go_on.wait(10)
            write(name, data)

        monkeypatch.setattr(folder, "write", slow_write)
        writer = threading.Thread(target=peers.add, args=(PHONE,))
        writer.start()
        assert waiting.wait(10)
        answers: list[object] = []
        asker = threading.Thread(target=lambda: answers.append(peers.by_key(NAS.key)))
        asker.start()
        asker.join(5)
        go_on.set()
        writer.join()
        assert answers == [NAS]
        assert peers.find("Anna's phone") == PHONE

    # covers: K06
    def test_damaged_while_running(self, folder: StateFolder, peers: Peers) -> None:
        """A file that breaks while the service runs lets nobody in until it is whole again."""
        peers.add(NAS)
        good = folder.read("peers.json") or b""
        folder.write("peers.json", good[:-10])
        questions = (
            peers.refresh,
            peers.all,
            lambda: peers.by_key(NAS.key),
            lambda: peers.find("nas"),
            lambda: peers.add(PHONE),
            lambda: peers.forget("nas"),
            lambda: peers.remember_address(NAS.key, "x"),
        )
        for ask in questions:
            with pytest.raises(BadState, match="damaged"):
                ask()
        assert folder.read("peers.json") == good[:-10]
        folder.write("peers.json", good)
        assert peers.by_key(NAS.key) == NAS

    # covers: K07
    def test_removed_while_running(self, folder: StateFolder, peers: Peers) -> None:
        """Without its file, nobody is known any more."""
        peers.add(NAS)
        os.unlink(folder.file("peers.json"))
        assert peers.all() == ()
        assert peers.by_key(NAS.key) is None

    def test_failed_write(
        self, folder: StateFolder, peers: Peers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What could not be written is not known either."""
        peers.add(NAS)

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(BadState):
            peers.add(PHONE)
        assert peers.all() == Peers(folder).all() == (NAS,)

    @pytest.mark.skipif(os.name == "nt", reason="modes of POSIX systems")
    def test_loosened(self, folder: StateFolder, peers: Peers) -> None:
        """A file that others may write is not believed, even if its content is the same."""
        peers.add(NAS)
        os.chmod(folder.file("peers.json"), 0o666)
        with pytest.raises(BadState, match="chmod 600"):
            peers.by_key(NAS.key)


class FileFormatTests:
    # covers: K06
    def test_every_flipped_bit(self, folder: StateFolder, peers: Peers) -> None:
        """Whatever byte is damaged: nobody else is let in, and mostly it is said."""
        for each in (NAS, PHONE, OLD):
            peers.add(each)
        known, whole = peers.all(), folder.read("peers.json") or b""
        path = Path(folder.file("peers.json"))
        damaged = [whole[:at] for at in range(1, len(whole) - 2, 5)]
        for at in range(len(whole)):
            damaged += [
                whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
                for bit in (at % 8, (at + 5) % 8)
            ]
        refused = 0
        for data in damaged:
            path.write_bytes(data)
            try:
                assert Peers(folder).all() == known
            except BadState:
                refused += 1
        assert refused > 0.95 * len(damaged)

    # covers: K07
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b'"peers"',
            b'{"version": 1}',
            b'{"version": 1, "peers": []}',
            b'{"version": 1, "peers": [], "check": null}',
            b'{"version": "1", "peers": [], "check": ""}',
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"version": 1, "peers": ' + b"[" * 100_000,
            b"9" * 5000,
        ],
    )
    def test_no_list_of_peers(self, folder: StateFolder, data: bytes) -> None:
        """Anything else in the place of the file is refused and left there."""
        folder.write("peers.json", data)
        with pytest.raises(BadState):
            Peers(folder)
        assert folder.read("peers.json") == data

    # covers: K07, K12
    def test_newer_version(self, folder: StateFolder, peers: Peers) -> None:
        """A file of a newer version is refused as such, even if its check is another."""
        peers.add(NAS)
        document = content(folder)
        document["version"] = 2
        folder.write("peers.json", json.dumps(document).encode())
        with pytest.raises(BadState, match="newer lanxfer"):
            peers.all()

    @pytest.mark.parametrize(
        "change",
        [
            {"name": 5},
            {"name": "a/b"},
            {"key": "ABCD"},
            {"key": None},
            {"key": ""},
            {"addresses": "nas"},
            {"addresses": [5]},
            {"addresses": ["a b"]},
            {"legacy": "no"},
            {"legacy": True},
        ],
    )
    def test_bad_peers(self, folder: StateFolder, peers: Peers, change: dict[str, Any]) -> None:
        """A peer that makes no sense spoils the file, even if the check is right."""
        peers.add(NAS)
        document = content(folder)
        document["peers"][0].update(change)
        rewrite(folder, document)
        with pytest.raises(BadState):
            Peers(folder)

    @pytest.mark.parametrize("field", ["name", "key", "addresses", "legacy"])
    def test_lacking(self, folder: StateFolder, peers: Peers, field: str) -> None:
        """A peer that lacks something spoils the file."""
        peers.add(NAS)
        document = content(folder)
        del document["peers"][0][field]
        rewrite(folder, document)
        with pytest.raises(BadState):
            Peers(folder)

    def test_twice(self, folder: StateFolder, peers: Peers) -> None:
        """One name twice, or one key twice, is a damaged file."""
        peers.add(NAS)
        for change in ({"name": "x"}, {"key": PHONE.key}):
            document = content(folder)
            document["peers"] = [document["peers"][0], {**document["peers"][0], **change}]
            rewrite(folder, document)
            with pytest.raises(BadState):
                Peers(folder)
            document["peers"].pop()
            rewrite(folder, document)

    # covers: K12
    def test_unknown_keys_stay(self, folder: StateFolder, peers: Peers) -> None:
        """What a later version noted is kept, as long as the peer has the same key."""
        peers.add(NAS)
        peers.add(PHONE)
        document = content(folder)
        document["theme"] = "dark"
        for row in document["peers"]:
            row["colour"] = "red"
        rewrite(folder, document)
        peers.remember_address(NAS.key, "10.9.9.9")
        peers.add(PHONE._replace(key=key("new phone")), replace=True)
        document = content(folder)
        assert document["theme"] == "dark"
        assert {row["name"]: row.get("colour") for row in document["peers"]} == {
            "nas": "red",
            "Anna's phone": None,
        }


class NameTests:
    @pytest.mark.parametrize(
        "name", ["nas", "Anna's phone", "K\u00fcche", "\u53f0\u6240", "a.b", "x" * 64, "v2", "42b"]
    )
    def test_good(self, name: str) -> None:
        """Names people give to devices are fine."""
        assert parse_name(name) == name

    # covers: A13
    @pytest.mark.parametrize(
        "name",
        [
            "",
            "x" * 65,
            " nas",
            "nas ",
            "\u00a0nas",
            "a\nb",
            "a\x1b[31mb",
            "a\u202eb",
            "a\u200bb",
            "\ud800",
            "a/b",
            "a\\b",
            "a:b",
            "-rf",
            "10.0.0.2",
            "42",
            "..",
            "0x7f.1",
            "0X7F000001",
            "::1",
            "[::1]",
        ],
    )
    def test_bad(self, name: str) -> None:
        """Names that hide something, or that could be a path, an option or an address, are not."""
        with pytest.raises(BadConfig) as caught:
            parse_name(name)
        assert str(caught.value).isprintable()


class AddressTests:
    @pytest.mark.parametrize(
        ("text", "host", "port"),
        [
            ("nas", "nas", DEFAULT_PORT),
            (" nas.local. ", "nas.local.", DEFAULT_PORT),
            ("nas:1", "nas", 1),
            ("my_box:65535", "my_box", 65535),
            ("10.0.0.2:5", "10.0.0.2", 5),
            ("::1", "::1", DEFAULT_PORT),
            ("fe80::1%eth0", "fe80::1%eth0", DEFAULT_PORT),
            ("[::1]", "::1", DEFAULT_PORT),
            ("[fe80::1%eth0]:36970", "fe80::1%eth0", 36970),
            ("::ffff:10.0.0.2", "::ffff:10.0.0.2", DEFAULT_PORT),
            ("k\u00fcche.local:80", "xn--kche-0ra.local", 80),
        ],
    )
    def test_good(self, text: str, host: str, port: int) -> None:
        """Names and numbers of hosts, with and without a port."""
        assert parse_address(text) == (host, port)
        assert parse_address(format_address(host, port)) == (host, port)

    def test_default_port(self) -> None:
        """The usual port can be another."""
        assert parse_address("nas", 80) == ("nas", 80)
        assert format_address("nas", 80, 80) == "nas"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ":",
            ":80",
            "nas:",
            "nas:0",
            "nas:080",
            "nas:65536",
            "nas:99999999999999999999",
            "nas:\u0665",
            "nas:-1",
            "nas: 80",
            "nas:80x",
            "a b",
            "a/b",
            "-x",
            "x-",
            "a..b",
            ".",
            "user@nas",
            "a\0b",
            "10.0.0.300",
            "10.1",
            "1",
            "0x7f.1",
            "010.0.0.1",
            "[nas]",
            "[10.0.0.1]:5",
            "[::1",
            "[::1]5",
            "[::1]:",
            "[::1]x:5",
            "::1::2",
            "fe80::1%",
            "fe80::1%a b",
            "fe80::1%eth0%1",
            "x" * 64,
            "a." * 127 + "a",
            "x" * 1_000_000,
            "\u00fc" * 200,
        ],
    )
    def test_bad(self, text: str) -> None:
        """Everything else is refused in one printable line."""
        with pytest.raises(BadConfig) as caught:
            parse_address(text)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 2000

    @given(st.text(max_size=40) | st.from_regex(r"\A\[?[0-9a-f:.%]{1,20}\]?:?[0-9]{0,6}\Z"))
    def test_anything(self, text: str) -> None:
        """Any text is an address that can be written again, or BadConfig."""
        with suppress(BadConfig):
            host, port = parse_address(text)
            assert 0 < port < 65536
            assert parse_address(format_address(host, port)) == (host, port)
