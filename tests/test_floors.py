"""The stairs of the house: imports go down only, and files are opened where that is allowed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lanxfer"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "keys", "showing", "transfers", "version", "wire"),
    ("registry", "sessions", "tally"),
    (
        "codes",
        "control",
        "conversation",
        "descriptors",
        "identity",
        "journal",
        "labels",
        "ahead",
        "offering",
        "packet_socket",
        "packing",
        "pake",
        "peers",
        "rows",
        "sandbox",
        "state",
        "storage",
        "straight",
        "straight_tls",
        "tcp_info",
        "upload",
        "views",
    ),
    ("admission", "allowance", "commands", "policy", "rights"),
    (
        "asking",
        "backpressure",
        "bodies",
        "bottleneck",
        "bulk",
        "calls",
        "channels",
        "clear",
        "clear_out",
        "cred",
        "deferreds",
        "direct",
        "disk",
        "door",
        "eager",
        "exchange",
        "factory",
        "gathering",
        "in_turn",
        "lifetime",
        "links",
        "logs",
        "outbox",
        "pace",
        "pipes",
        "places",
        "protocol",
        "rates",
        "reading",
        "receiver",
        "refusals",
        "sealed",
        "sparing",
        "remote",
        "sockets",
        "stores",
        "streams",
        "stretch_in",
        "stretch_out",
        "tls",
        "turns",
    ),
    (
        "ae",
        "awaiting",
        "blocking",
        "changing",
        "clear_sending",
        "client",
        "config",
        "connecting",
        "deciding",
        "delivery",
        "discovery",
        "handing",
        "hooks",
        "introducing",
        "linking",
        "metrics",
        "node",
        "offers",
        "opening",
        "outgoing",
        "pairing",
        "retrying",
        "revoking",
        "running",
        "sending",
        "service",
        "settings",
        "sharing",
        "slots",
        "fetching",
        "folders",
        "space",
        "stalls",
        "tidying",
        "trees",
        "web",
        "within",
    ),
    ("__main__", "cli", "configured", "doctor", "hangup", "heap", "jobs", "logged", "ready", "tap"),
)
"""Design, section 6: a module or package may import from its own floor and from those below."""

BESIDE = {"testing"}
"""May look anywhere; nobody may look at it."""

REACTOR = 4
"""Twisted begins on this floor."""

DISK = {"storage", "state", "identity", "journal", "peers", "codes", "views"}
"""What may open files and look at paths as it likes."""

OTHER_WAYS = {
    *("shutil", "pathlib", "tempfile", "io", "glob", "fileinput", "mmap", "codecs", "posix"),
    *("builtins", "ctypes", "subprocess", "sqlite3", "dbm", "shelve", "mailbox", "fcntl"),
    *("tarfile", "zipfile", "gzip", "bz2", "lzma", "pickle", "runpy", "pty"),
}
"""Modules that reach a disk by themselves."""

MAY_TOUCH_DISK = {
    "bottleneck": {
        "open": "what Linux counts of this process's threads",
        "os.listdir": "see open",
    },
    "client": {
        "os.PathLike": "a type",
        "os.fspath": "takes what the caller has; touches no disk",
    },
    "doctor.system": {"open": "what Linux says of interfaces and neighbours"},
    "eager": {
        "os as a value": "not every system has sched_getaffinity",
        "os.cpu_count": "whether the other side has a processor for itself",
        "os.sched_getaffinity": "see os.cpu_count",
    },
    "folders": {
        "os.PathLike": "a type",
        "os.fspath": "takes what the caller has; touches no disk",
        "os.path.join": "the whole name of what was fetched",
    },
    "offering": {
        "os.path.abspath": "the name of what is sent as '.'",
        "os.path.basename": "a file goes out under its own name",
    },
    "pipes": {
        "os.get_blocking": "how a descriptor was that this process was started with",
        "os.set_blocking": "see os.get_blocking",
    },
    "sharing": {"os.path.realpath": "whether a shared folder is the inbox"},
    "cli.completion": {"os.path.isdir": "completing a line makes no state folder"},
    "cli.filing": {
        ".mkdir": "asks another device for it",
        "os.path.abspath": "the name of what is put",
        "os.path.basename": "see os.path.abspath",
        "os.path.exists": "see os.path.getsize",
        "os.path.getsize": "the size of what is about to be put",
        "os.path.isdir": "tells a folder from a file",
        "os.path.join": "where a fetched folder goes",
    },
    "cli.output": {
        "os.O_WRONLY": "see os.open",
        "os.close": "see os.open",
        "os.devnull": "see os.open",
        "os.dup2": "see os.open",
        "os.open": "the null device in place of an output that nobody reads",
        "os.environ.get": "touches no disk",
    },
    "cli.pairing": {
        "os.read": "the words, from standard input",
        "pathlib": "see pathlib.Path",
        "pathlib.Path": "the file that --code names",
    },
    "cli.passwords": {
        "open": "the file of --password-file",
        "os.environ.pop": "touches no disk",
        "os.fstat": "whether others can read that file",
    },
    "cli.progress": {"os.environ.get": "touches no disk"},
    "cli.configuring": {"os.path.exists": "whether there is a configuration file"},
    "cli.ending": {"os._exit": "touches no disk"},
    "cli.start": {"os._exit": "touches no disk", "os.environ": "touches no disk"},
    "cli.straight": {
        "os.lstat": "whether it is small enough to be worth a try",
        "os.urandom": "touches no disk",
    },
    "cli.straight_many": {
        "os.lstat": "whether it is small enough to be worth a try",
        "os.urandom": "touches no disk",
    },
    "cli.running": {"os._exit": "touches no disk"},
    "cli.send": {
        "os.path.isdir": "tells a folder from a file",
        "os.path.lexists": "whether a file was named where the device belongs",
    },
    "cli.sending": {
        "os.stat": "the size of what is about to be sent",
    },
    "cli.sources": {
        "open": "what came on standard input, in a folder of its own until it is sent",
        "os.path.join": "see open",
        "os.read": "standard input",
        "os.rmdir": "see open",
        "os.unlink": "see open",
        "tempfile": "see open",
    },
    "cli.units": {
        "os.geteuid": "touches no disk",
        "os.path.abspath": "a unit names whole paths",
        "os.path.dirname": "see os.path.join",
        "open": "the unit it was told to install",
        "os.environ.get": "touches no disk",
        "os.makedirs": "see open",
        "os.path.expanduser": "see open",
        "os.path.join": "the twistd beside this Python",
    },
    "cli.weblink": {"io": "see io.StringIO", "io.StringIO": "a QR code; touches no disk"},
    "changing": {"os.path.realpath": "whether two shares are one folder"},
    "config.file": {
        "os.path.abspath": "the configuration file, before the daemon moves elsewhere",
    },
    "config.kinds": {
        **dict.fromkeys(
            ("os.path.expanduser", "os.path.isabs"),
            "paths that the owner wrote, made whole",
        ),
    },
    "configured": {
        "os.path.abspath": "the file of --jobs, before the daemon moves elsewhere",
        "os.stat": "whether others can read the passwords of --auth",
    },
    "hangup": {
        **dict.fromkeys(
            ("os.O_NOCTTY", "os.O_RDONLY", "os.close", "os.open"),
            "whether there is a terminal; touches no disk",
        ),
    },
    "cred": {"os.getuid": "compared with the caller's user"},
    "jobs": {
        "os.PathLike": "a type",
        "os.fspath": "takes what the caller has; touches no disk",
    },
    "jobs.blocking": {"os.PathLike": "a type"},
    "jobs.logs": {
        "os.makedirs": "the owner's folder for logs",
        "os.path.dirname": "see os.makedirs",
        "os.path.join": "see os.makedirs",
    },
    "jobs.config.app": {
        **dict.fromkeys(
            ("os.getcwd", "os.path.abspath", "os.path.basename", "os.path.dirname", "os.path.join"),
            "paths that the owner wrote, made whole",
        ),
    },
    "jobs.config.files": {
        "open": "the owner's own files of jobs",
        "os.fstat": "whether others can read the file of a password",
        **dict.fromkeys(
            ("os.path.abspath", "os.path.expanduser", "os.path.join", "os.path.normpath"),
            "paths that the owner wrote, made whole",
        ),
        "os.environ.get": "touches no disk",
    },
    "jobs.config.hosts": {
        **dict.fromkeys(
            ("os.path.basename", "os.path.dirname", "os.path.expanduser"),
            "paths that the owner wrote, made whole",
        ),
    },
    "jobs.config.job": {
        **dict.fromkeys(("os.listdir", "os.path.exists"), "the owner's own files of jobs"),
        **dict.fromkeys(
            ("os.fspath", "os.getcwd", "os.path.basename", "os.path.join", "os.sep"),
            "paths that the owner wrote, made whole",
        ),
    },
    "jobs.config.options": {"os.environ": "touches no disk"},
    "jobs.ends.backend": {".makedirs": "of a server; touches no disk here"},
    "jobs.ends.ftp": {".rename": "of a server; touches no disk here"},
    "jobs.ends.remote": {".rmdir": "of a server; touches no disk here"},
    "jobs.ends.sftp": {
        ".mkdir": "of a server; touches no disk here",
        ".rename": "of a server; touches no disk here",
    },
    "jobs.moving.making": {
        "tempfile": "files on their way between two servers, in a folder of their own",
    },
    "jobs.moving.spools": {"shutil": "that folder, in the end"},
    "jobs.telling": {"os.path.join": "see jobs.telling.templates"},
    "jobs.telling.hooks": {
        "io": "see io.BytesIO",
        "io.BytesIO": "memory; touches no disk",
        "os.environ": "touches no disk",
    },
    "jobs.telling.mail": {
        "io": "see io.BytesIO",
        "io.BytesIO": "memory; touches no disk",
        "open": "the certificate of the owner's mail server",
    },
    "jobs.telling.templates": {"open": "the owner's mail templates"},
    "jobs.trusting": {
        **dict.fromkeys(("open", "os.fsync"), "the owner's known_hosts file"),
        **dict.fromkeys(
            ("os.path.abspath", "os.path.dirname", "os.replace", "os.unlink"), "see open"
        ),
    },
    "sealed": {
        "mmap": "memory alone, of no file",
        "mmap.mmap": "see mmap",
        "mmap.ACCESS_COPY": "see mmap",
    },
    "heap": {"ctypes": "how many heaps the threads have"},
    "hooks.runner": {
        "os.environ": "touches no disk",
        "os.killpg": "ends a hook that takes too long",
        "subprocess": "the programs of --hook, whose owner chose them",
    },
    "opening": {
        "os.path.abspath": "where in the inbox something is, for hooks",
        "os.path.join": "where in the inbox something is, for hooks",
    },
    "outgoing": {"os.path.isdir": "tells a folder from a file, in a disk thread"},
    "service": {"os.path.abspath": "what status shows"},
    "running": {"os.unlink": "the control socket that a crash left"},
    "settings": {
        "os.fspath": "takes what the caller has; touches no disk",
        "os.path.join": "the default inbox, below the user's Downloads",
    },
    "ready": {"os.environ.get": "touches no disk"},
    "sandbox": {
        "os.devnull": "what everybody may write to",
        "os.environ": "touches no disk",
        "os.path.commonpath": "whether one folder lies in another",
        "os.path.dirname": "the folder of a log or pid file",
        "os.path.expanduser": "the home folder, which is not to be opened",
        "os.path.join": "where a relative name lies",
        "os.path.realpath": "Landlock knows real folders only",
        "os as a value": "Windows has no geteuid",
    },
    "tap": {
        **dict.fromkeys(
            ("os.close", "os.dup", "os.write"),
            "the terminal that twistd leaves; touches no disk",
        ),
    },
    "within": {".mkdir": "asks another device for it", "os.PathLike": "a type"},
    "web.http": {"io": "see io.BytesIO", "io.BytesIO": "a small body; touches no disk"},
    "testing": {"os.stat_result": "a value"},
}
"""Everything else that may, with its reason; what is not used any more has to go from here."""

OPENERS = {"open", "compile", "exec", "eval", "__import__"}
METHODS = {
    *("write_text", "write_bytes", "read_text", "read_bytes", "touch", "unlink", "rmdir", "mkdir"),
    *("symlink_to", "hardlink_to", "rename", "iterdir", "setContent", "moveTo", "makedirs"),
}
"""What the path objects of several libraries are told to do."""


def floor_of(module: str) -> int | None:
    """The floor of ``lanxfer.<module>``; None beside the house."""
    top = module.partition(".")[0]
    if not top or top in BESIDE:
        return None
    found = [number for number, names in enumerate(FLOORS) if top in names]
    assert len(found) == 1, f"lanxfer.{module} is on no floor; put it on one"
    return found[0]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports(tree: ast.AST) -> Iterator[str]:
    """Everything that is imported anywhere in a module, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole module"
            module = node.module or ""
            yield module
            yield from (f"{module}.{each.name}" for each in node.names)


def own(names: Iterator[str]) -> Iterator[str]:
    """Those of lanxfer itself, without its name."""
    for name in names:
        head, _, rest = name.partition(".")
        if head == "lanxfer" and rest:
            yield rest


def upwards(module: str, source: str) -> list[str]:
    """What ``module`` imports from a floor above its own, or from beside the house."""
    here = floor_of(module)
    if here is None:
        return []
    wrong = []
    for name in own(imports(ast.parse(source))):
        there = floor_of(name)
        if there is None or there > here:
            wrong.append(name)
    return wrong


def dotted(node: ast.expr) -> str:
    """``a.b.c`` as it is written; "" for what is no chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def touches(source: str) -> set[str]:
    """The names in a source by which it could reach a disk."""
    tree = ast.parse(source)
    found = {name for name in imports(tree) if name.partition(".")[0] in OTHER_WAYS}
    found |= {name for name in imports(tree) if name.startswith(("os.", "twisted.python.filep"))}
    chains = {dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    longest = {each for each in chains if not any(other.startswith(f"{each}.") for other in chains)}
    found |= {each for each in longest if each.startswith("os.")}
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found |= {func.id for func in calls if isinstance(func, ast.Name) and func.id in OPENERS}
    methods = {func.attr for func in calls if isinstance(func, ast.Attribute)}
    found |= {f".{name}" for name in methods & METHODS if f"os.{name}" not in found}
    return found | hidden(tree)


def hidden(tree: ast.AST) -> set[str]:
    """Uses of ``os`` under another name, or as a value, which nobody here can follow."""
    aliases = {
        f"os as {each.asname}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for each in node.names
        if each.asname and each.name.partition(".")[0] == "os"
    }
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "os"]
    owners = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return aliases | {"os as a value" for node in named if id(node) not in owners}


class FloorTests:
    @pytest.mark.parametrize("module", [name for name in MODULES if name])
    def test_down_only(self, module: str) -> None:
        """A module imports from its own floor and from those below."""
        assert upwards(module, MODULES[module].read_text()) == []

    @pytest.mark.parametrize(
        ("module", "source", "wrong"),
        [
            ("wire.native", "from lanxfer.registry import Registry", ["registry"]),
            ("registry", "def f():\n    import lanxfer.sessions, lanxfer.policy", ["policy"]),
            ("commands.table", "from lanxfer import calls", ["calls"]),
            ("client", "from lanxfer.testing import Pair", ["testing"]),
            ("tap", "from lanxfer import service, errors", []),
        ],
    )
    def test_finds(self, module: str, source: str, wrong: list[str]) -> None:
        """An import that goes up is found, wherever it stands."""
        assert [name for name in upwards(module, source) if "." not in name] == wrong

    def test_no_stale_names(self) -> None:
        """Every name on a floor is there."""
        there = {name.partition(".")[0] for name in MODULES} | {"cli"}
        assert {name for floor in FLOORS for name in floor} <= there

    @pytest.mark.parametrize(
        "module", [name for name in MODULES if name and (floor_of(name) or 0) < REACTOR]
    )
    def test_no_reactor_below(self, module: str) -> None:
        """Nothing below the fourth floor mentions Twisted."""
        if floor_of(module) is None:
            return
        tops = {name.partition(".")[0] for name in imports(ast.parse(MODULES[module].read_text()))}
        assert not tops & {"twisted", "zope", "OpenSSL"}

    def test_no_reactor_at_run_time(self) -> None:
        """The lower floors work in a process that never loads Twisted."""
        low = [
            f"lanxfer.{name}"
            for name in MODULES
            if name and floor_of(name) is not None and floor_of(name) in range(REACTOR)
        ]
        assert len(low) > 30
        script = (
            "import importlib, sys\n"
            f"for name in {low!r}: importlib.import_module(name)\n"
            "print([name for name in sys.modules if name.partition('.')[0] == 'twisted'])\n"
        )
        run = [sys.executable, "-c", script]
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.stderr) == ("[]", "")

    @pytest.mark.parametrize(
        "module",
        [
            name
            for name in MODULES
            if name.startswith(("jobs.config", "jobs.ends", "jobs.moving"))
            and name not in {"jobs.ends.device", "jobs.moving.making"}
        ],
    )
    def test_jobs_without_reactor(self, module: str) -> None:
        """What a job is, which files it is about and how they move knows no reactor."""
        tops = {name.partition(".")[0] for name in imports(ast.parse(MODULES[module].read_text()))}
        assert not tops & {"twisted", "zope", "OpenSSL"}

    def test_testing_is_beside(self) -> None:
        """The kit for tests is used by nothing that is installed for use."""
        users = [
            module
            for module, path in MODULES.items()
            if any(name.startswith("testing") for name in own(imports(ast.parse(path.read_text()))))
        ]
        assert users == []


class BanTests:
    """Whatever a peer wrote becomes a path in one place (security design, section 6)."""

    @pytest.mark.parametrize("module", [n for n in MODULES if n.partition(".")[0] not in DISK])
    def test_no_files(self, module: str) -> None:
        """No module opens files or looks at paths that has no reason to."""
        allowed = MAY_TOUCH_DISK.get(module, {})
        assert touches(MODULES[module].read_text()) == set(allowed)

    @pytest.mark.parametrize(
        ("source", "found"),
        [
            ("open('x')", {"open"}),
            ("import os\nos.path.join('a', 'b')", {"os.path.join"}),
            ("import os\ndef f(): return [os.open(x, 0) for x in y]", {"os.open"}),
            ("from os import path", {"os.path"}),
            ("from pathlib import Path", {"pathlib", "pathlib.Path"}),
            ("import shutil", {"shutil"}),
            ("def f():\n    import subprocess", {"subprocess"}),
            ("import os as o\no.unlink('x')", {"os as o", ".unlink"}),
            ("import os\ngetattr(os, 'unlink')('x')", {"os as a value"}),
            ("from os import unlink as gone\ngone('x')", {"os.unlink"}),
            ("import os\nos.rename('a', 'b')", {"os.rename"}),
            ("root.joinpath('x').write_bytes(b'')", {".write_bytes"}),
            ("import builtins\nbuiltins.open('x')", {"builtins"}),
            (
                "from twisted.python.filepath import FilePath",
                {"twisted.python.filepath", "twisted.python.filepath.FilePath"},
            ),
            ("self.open('x'); opened('y')", set()),
        ],
    )
    def test_finds(self, source: str, found: set[str]) -> None:
        """Ways to a file are found, whatever their dress."""
        assert touches(source) == found

    def test_every_exception_has_a_reason(self) -> None:
        """What is allowed is a module that is there, with a reason."""
        assert set(MAY_TOUCH_DISK) <= set(MODULES)
        assert all(reason for each in MAY_TOUCH_DISK.values() for reason in each.values())
