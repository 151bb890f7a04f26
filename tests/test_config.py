"""The table of settings, and the file they are written in."""

from __future__ import annotations

import os
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest
from attrs import fields
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lanxfer.admission import Legacy
from lanxfer.config.edit import set_value, unset_value
from lanxfer.config.file import config_path, parse_config, read_config
from lanxfer.config.kinds import FLAG, HOOK, LIMIT, NETWORK, PATH, PORT, RATE, SHARE
from lanxfer.config.table import BY_KEY, KEYS, TABLE, Setting, setting
from lanxfer.configured import settings_from
from lanxfer.errors import BadConfig, NotFound
from lanxfer.settings import Settings
from lanxfer.state import StateFolder, default_state

line = st.text(st.characters(exclude_categories=("C", "Z")), max_size=30)
name = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8)
whole = st.builds("/{}/{}".format, name, line.map(lambda text: text.replace("/", "")))


def texts(each: Setting) -> st.SearchStrategy[str]:
    """What may be said of one value of a setting."""
    kind = each.kind
    if kind.choices:
        return st.sampled_from(kind.choices)
    if kind is FLAG:
        return st.sampled_from(["true", "false"])
    if kind is PORT:
        return st.integers(0, 65535).map(str) | st.just("none")
    if kind is RATE:
        sizes = st.integers(4096, 2**50).map(str)
        return sizes | st.sampled_from(["any", "5M", "1.5 MiB/s", "64 KiB"])
    if kind is PATH:
        return whole
    if kind is SHARE:
        return st.builds(
            "{}={}{}".format, name, name.map("/x/{}".format), st.sampled_from(["", ":rw"])
        )
    if kind is HOOK:
        return st.builds("{}={}".format, st.sampled_from(["received", "message"]), name)
    if kind is LIMIT:
        return st.integers(0, 10**9).map("strangers-max={}".format)
    if kind is NETWORK:
        return st.ip_addresses().map(str)
    if kind.name == "INTEGER":
        return st.integers(1024, 65535).map(str)
    return line


@st.composite
def said(draw: Any) -> tuple[Setting, tuple[str, ...]]:
    """A setting of the file, and what may be said of it."""
    each = BY_KEY[draw(st.sampled_from(KEYS))]
    one = texts(each)
    many = st.lists(one, max_size=4).map(tuple)
    return each, draw(many if each.many else st.tuples(one))


class PathTests:
    def test_beside(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Where a confined service, which may write to its state folder, cannot write."""
        monkeypatch.delenv("LANXFER_STATE", raising=False)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        assert config_path(None, None) == str(tmp_path / "lanxfer" / "config.toml")
        # As units name it, whose service has to read what "lanxfer config" wrote.
        assert config_path(None, default_state()) == config_path(None, None)
        assert config_path(None, "/a/state/") == "/a/state.toml"
        assert config_path("other.toml", "/a/state") == str(tmp_path / "other.toml")
        monkeypatch.setenv("LANXFER_STATE", "/b/state")
        assert config_path(None, None) == "/b/state.toml"
        assert config_path(None, "/a/state") == "/a/state.toml"


class TableTests:
    def test_is_of_settings(self) -> None:
        """Every field that has an option has the table's default, and is there once."""
        usual = Settings(inbox="/i", state="/s", device="d")
        named = [each for each in TABLE if each.name]
        assert len({each.name for each in named}) == len(named)
        options = {each.key: each.default for each in TABLE}
        given = settings_from({**options, "inbox": "/i", "state": "/s", "device": "d"})
        known = {each.name for each in fields(Settings)}
        for each in named:
            assert each.name in known
            if each.key != "no-sandbox":  # an application is confined only where it says so
                assert getattr(given, each.name) == getattr(usual, each.name), each.key

    @given(said())
    def test_round_trip(self, what: tuple[Setting, tuple[str, ...]]) -> None:
        """A value stands in a file and comes back, and can be said by its own text."""
        each, said = what
        value = each.parse(*said)
        assert each.read(each.plain(value)) == value
        spoken = [each.kind.format(part) for part in (value if each.many else [value])]
        assert each.parse(*spoken) == value

    @given(said=said())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_to_settings(self, said: tuple[Setting, tuple[str, ...]], tmp_path: Path) -> None:
        """What is set reaches ``Settings`` by way of the file as it does by the command line."""
        each, words = said
        path, value = str(tmp_path / "config.toml"), each.parse(*words)
        set_value(path, each.key, value)
        found = read_config(path)
        assert found == {each.key: value}
        if each.name:
            usual = {"inbox": "/i", "state": "/s", "device": "d"}
            assert settings_from({**usual, **found}) == settings_from({**usual, each.key: value})
        unset_value(path, each.key)
        assert read_config(path) == {}

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            ("prot", 'There is no setting "prot"; did you mean "port"?'),
            ("rate_in", 'There is no setting "rate_in"; did you mean "rate-in"?'),
            ("xyzzy", 'There is no setting "xyzzy".'),
            ("state", "state is said on the command line only (--state), not in a file."),
            ("allow-root", "allow-root is said on the command line only"),
        ],
    )
    def test_no_such(self, key: str, said: str) -> None:
        """What is no key of the file is said with the nearest one that is."""
        with pytest.raises(BadConfig) as caught:
            setting(key)
        assert caught.value.reason.startswith(said)

    @pytest.mark.parametrize(
        ("key", "secret", "shown"),
        [
            ("auth", "memory:bob:two", "memory:bob:***"),
            ("share", "x=ftp://me:word@host/a", "x=ftp://me:***@host/a"),
            ("hook", "received=https://h.example/T0/B0/x", "received=https://h.example/..."),
        ],
    )
    def test_no_secrets(self, key: str, secret: str, shown: str) -> None:
        """What opens something is not shown."""
        # covers: A11
        assert BY_KEY[key].texts(BY_KEY[key].parse(secret)) == [shown]


class FileTests:
    def test_document(self) -> None:
        """The example in docs/configuration.rst can be used as it is."""
        page = (Path(__file__).parent.parent / "docs/configuration.rst").read_text()
        block = page.split("::\n\n", 1)[1].split("\n\n", 1)[0]
        found = parse_config(textwrap.dedent(block).encode(), "/f")
        assert found["port"] == 40000 and len(found["share"]) == 2

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("prot = 5", 'line 1: There is no setting "prot"; did you mean "port"?'),
            ('# a\n\nport = "many"', "line 3: port is a number from 0 to 65535, or"),
            ("port = true", "not true."),
            ("port = 65536", "not 65536."),
            ("port = -1", "not -1."),
            ("buf-len = 2", "line 1: buf-len is a number of bytes from 1024 to 4194304, not 2."),
            ("buf-len = 2.5", "not 2.5."),
            ("open = 1", "open is true or false, not 1."),
            ('share = "a=/x"', "share is a list such as ["),
            ('share = ["a=b"]', "with a whole path"),
            ("share = [1]", "not 1."),
            ("rate-in = 5", 'rate-in is bytes a second such as "5M"'),
            ('limit = ["strangers=2"]', "There is no limit 'strangers'"),
            ("[limit]\nstrangers-max = 2", "line 1: limit is a list"),
            ('hook = ["x"]', "line 1: hook is WHEN=COMMAND"),
            ('plain-from = ["x"]', "'x' is no address"),
            ('inbox = "here"', "inbox is a whole path"),
            ('legacy = "some"', 'legacy is "off", "receive" or "full", not'),
            ("port = \n", "line 1: this is no TOML"),
            ("port = ", "at its end: this is no TOML"),
            ("port = 1\nport = 2", "this is no TOML"),
            ('state = "/x"', "on the command line only"),
            ("a.b = 1", 'line 1: There is no setting "a"'),
            ("\xff", "this is no"),
        ],
    )
    def test_mistakes(self, text: str, said: str) -> None:
        """A mistake is a sentence that names file, line and key."""
        with pytest.raises(BadConfig) as caught:
            parse_config(text.encode("latin-1"), "/a/config.toml")
        assert caught.value.reason.startswith("/a/config.toml")
        assert said in caught.value.reason

    @given(
        st.text(max_size=60)
        | st.sampled_from(KEYS).flatmap(
            lambda key: st.text(max_size=20).map(lambda text: f"{key} = {text}")
        )
    )
    def test_anything(self, text: str) -> None:
        """Whatever is in the file, it is read, or BadConfig says why it is not."""
        try:
            found = parse_config(text.encode("utf-8", "surrogatepass"), "/f")
        except BadConfig:
            return
        assert found.keys() == tomllib.loads(text).keys()

    def test_no_secrets(self) -> None:
        """A password is not repeated by the sentence that says what is wrong."""
        # covers: A11
        for text in ('share = "a=ftp://me:secret@host/x"', 'auth = "memory:bob:secret"'):
            with pytest.raises(BadConfig) as caught:
                parse_config(text.encode(), "/f")
            assert "***" in caught.value.reason and "secret" not in caught.value.reason

    def test_home(self) -> None:
        """A path may begin at home, in a share too."""
        found = parse_config(b'inbox = "~/in"\nshare = ["a=~/x:rw"]', "/f")
        home = os.path.expanduser("~")
        assert found == {"inbox": f"{home}/in", "share": (f"a={home}/x:rw",)}

    def test_whose(self, tmp_path: Path) -> None:
        """A file that others can write to is refused, as is what is no file."""
        # covers: A11
        path = tmp_path / "config.toml"
        path.write_text("port = 1\n")
        for mode in (0o600, 0o640, 0o644):
            path.chmod(mode)
            assert read_config(str(path)) == {"port": 1}
        for mode in (0o620, 0o602, 0o666):
            path.chmod(mode)
            with pytest.raises(BadConfig, match="chmod go-w"):
                read_config(str(path))
        path.unlink()
        assert read_config(str(path)) == {}
        with pytest.raises(BadConfig, match="There is no configuration file"):
            read_config(str(path), must=True)
        os.mkfifo(path)
        with pytest.raises(BadConfig, match="is no configuration file"):
            read_config(str(path))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_of_others(self, tmp_path: Path) -> None:
        """Another user's file is not this one's to go by."""
        path = tmp_path / "config.toml"
        path.write_text("port = 1\n")
        os.chown(path, 12345, -1)
        with pytest.raises(BadConfig, match="belongs to another user"):
            read_config(str(path))


BEFORE = """\
# what I chose
port = 1   # why

rate-in = "5 MiB"
# the end
"""


class EditTests:
    def test_keeps(self, tmp_path: Path) -> None:
        """Comments, order and mode stay; a file that is made is for its owner alone."""
        path = tmp_path / "config.toml"
        path.write_text(BEFORE)
        path.chmod(0o640)
        set_value(str(path), "port", 2)
        assert path.read_text() == BEFORE.replace("port = 1", "port = 2")
        set_value(str(path), "open", True)
        unset_value(str(path), "rate-in")
        text = path.read_text()
        assert "# what I chose\nport = 2   # why\n" in text and "# the end\n" in text
        assert read_config(str(path)) == {"port": 2, "open": True}
        assert path.stat().st_mode & 0o777 == 0o640
        set_value(str(tmp_path / "new"), "port", None)
        assert (tmp_path / "new").read_text() == 'port = "none"\n'
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
        assert sorted(os.listdir(tmp_path)) == ["config.toml", "new"]

    def test_link(self, tmp_path: Path) -> None:
        """A link to the file stays one."""
        (tmp_path / "real").write_text("port = 1\n")
        (tmp_path / "config.toml").symlink_to("real")
        set_value(str(tmp_path / "config.toml"), "port", 5)
        assert (tmp_path / "config.toml").is_symlink()
        assert (tmp_path / "real").read_text() == "port = 5\n"

    def test_nothing_wrong_is_written(self, tmp_path: Path) -> None:
        """With a mistake elsewhere nothing is written; that one can be put right, or taken out."""
        path = tmp_path / "config.toml"
        text = "prot = 5\nport = 70000\n"
        path.write_text(text)
        with pytest.raises(BadConfig, match="prot"):
            set_value(str(path), "open", True)
        assert path.read_text() == text
        unset_value(str(path), "prot")
        set_value(str(path), "port", 7)
        assert read_config(str(path)) == {"port": 7}
        with pytest.raises(NotFound):
            unset_value(str(path), "open")
        path.write_text("port = \n")
        with pytest.raises(BadConfig, match="line 1: this is no TOML"):
            set_value(str(path), "open", True)

    def test_one_at_a_time(self, tmp_path: Path) -> None:
        """In the state folder nobody else changes it meanwhile."""
        folder = StateFolder(str(tmp_path / "state"))
        set_value(folder.file("config.toml"), "legacy", "full", folder)
        found = settings_from(read_config(folder.file("config.toml")))
        assert found.legacy is Legacy.FULL
