"""What a send is limited by: the judgement on paper, and real networks, disks and processors."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from networks import Host, connect, hosts, know

from lanxfer.bottleneck import SPAN, Bottleneck, Limit, Look, judge

MIB = 1024 * 1024


def looks(
    busy: float = 0.0, unread: float = 0.0, waits: float = 0.0, computed: tuple[float, ...] = ()
) -> deque[Look]:
    """Three seconds in which these shares of the time were spent so."""
    found = deque()
    for number in range(16):
        at = number * SPAN / 15
        threads = {each: share * at for each, share in enumerate(computed)}
        found.append(Look(at, busy * at, unread * at, number < waits * 16, threads))
    return found


class JudgeTests:
    @pytest.mark.parametrize(
        ("seen", "limit"),
        [
            (looks(busy=1.0), Limit.NETWORK),
            (looks(busy=0.9, unread=0.8), Limit.TARGET),
            (looks(busy=0.05, waits=0.9), Limit.SOURCE),
            (looks(busy=0.2, computed=(0.95, 0.1)), Limit.PROCESSOR),
            (looks(busy=0.1), Limit.TARGET),
            # Nothing stands out, or this side is not idle enough to put it on the other.
            (looks(busy=0.5), Limit.UNKNOWN),
            (looks(busy=0.1, waits=0.5), Limit.UNKNOWN),
            (looks(busy=0.1, computed=(0.5, 0.4)), Limit.UNKNOWN),
            (deque([Look(0, 0, 0, False, {}), Look(0.2, 0.2, 0, False, {})]), Limit.UNKNOWN),
        ],
    )
    def test_judge(self, seen: deque[Look], limit: Limit) -> None:
        """What stands out is said, and nothing else."""
        assert judge(seen) is limit

    def test_nothing_to_look_at(self) -> None:
        """Without a connection, or with none of TCP's, nothing is said."""
        assert Bottleneck(time.monotonic, lambda: None).look() is Limit.UNKNOWN
        one, other = socket.socketpair()
        with one, other:
            assert Bottleneck(time.monotonic, lambda: one).look() is Limit.UNKNOWN


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    with hosts(tmp_path, "ab") as (laptop, nas):
        connect(laptop, "lan0", nas, "lan0")
        laptop.ip("addr", "add", "10.77.0.1/24", "dev", "lan0")
        nas.ip("addr", "add", "10.77.0.2/24", "dev", "lan0")
        know(laptop, nas, "10.77.0.2")
        yield laptop, nas


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(40 * MIB))
    return path


def limits_said(laptop: Host, file: Path) -> set[str]:
    """What the progress lines of a send say."""
    process = laptop.start("send", file, "nas")
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said.decode()
    return set(re.findall(r"limited by ([^:\n]*)", said.decode()))


def control_group(stack: ExitStack, kind: str) -> Path:
    """A group of its own; skips where there is none to be had."""
    group = Path("/sys/fs/cgroup") / kind / f"lanxfer-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("control groups (version 1) are not allowed here")
    stack.callback(group.rmdir)
    return group


def slow_disk(stack: ExitStack, folder: Path, file: Path) -> tuple[str, Path]:
    """A file system in a file with a copy of ``file``, out of the cache: device and copy."""

    def call(*words: object) -> str:
        done = subprocess.run([*map(str, words)], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with image.open("wb") as empty:
        empty.truncate(100 * MIB)
    try:
        call("mkfs.ext4", "-q", "-F", image)
        device = call("losetup", "-f", "--show", image)
        stack.callback(call, "losetup", "-d", device)
        call("mount", device, mount)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk of the test's own is not allowed")
    try:
        shutil.copy(file, mount / "copy")
    finally:
        call("umount", mount)
    call("mount", device, mount)
    stack.callback(call, "umount", mount)
    return device, mount / "copy"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts")
class RealTests:
    def test_network(self, two: tuple[Host, Host], file: Path) -> None:
        """A slow wire, from a process of its own and by way of the service."""
        laptop, nas = two
        nas.serve("--no-sandbox")
        slow = "tc qdisc add dev lan0 root tbf rate 40mbit burst 64k latency 50ms"
        command = ["ip", "netns", "exec", laptop.name, *slow.split()]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("traffic control is not allowed")
        assert limits_said(laptop, file) == {"the network"}
        laptop.serve("--port", "none")
        (nas.inbox / file.name).unlink()
        assert limits_said(laptop, file.rename(file.with_name("other"))) == {"the network"}

    def test_target(self, two: tuple[Host, Host], file: Path) -> None:
        """A receiver that takes its time."""
        laptop, nas = two
        nas.serve("--rate-in", "5M")
        assert limits_said(laptop, file) == {"nas"}

    def test_source_disk(self, two: tuple[Host, Host], file: Path, tmp_path: Path) -> None:
        """A slow disk under the file that is sent."""
        laptop, nas = two
        nas.serve()
        with ExitStack() as stack:
            device, mounted = slow_disk(stack, tmp_path, file)
            group = control_group(stack, "blkio")
            numbers = os.stat(device).st_rdev
            line = f"{os.major(numbers)}:{os.minor(numbers)} 6000000"
            (group / "blkio.throttle.read_bps_device").write_text(line)
            process = laptop.start("send", mounted, "nas", group=group)
            _, said = process.communicate(timeout=100)
        assert process.returncode == 0, said.decode()
        assert set(re.findall(r"limited by ([^:\n]*)", said.decode())) == {"the disk here"}

    def test_own_limit(self, two: tuple[Host, Host], file: Path) -> None:
        """Where this side wants to be slow, nobody else is to blame."""
        laptop, nas = two
        nas.serve()
        process = laptop.start("send", file, "nas", "--limit-rate", "5M")
        _, said = process.communicate(timeout=100)
        assert process.returncode == 0 and b"MiB of" in said and b"limited" not in said
