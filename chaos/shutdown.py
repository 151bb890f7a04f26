"""A real file system that is shut down without its log (catalogue K04; F2).

The receiver lies on ext4, on a disk in memory.  At a random moment of a
transfer the file system is shut down as if the power had gone: what it had not
written is lost.  It is mounted again, looked at, and the same is sent again.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import click
from attrs import define

from chaos.figures import Figures
from chaos.forked import warm
from chaos.mounting import mount, run_inside, unmount
from chaos.pair import Place, Service, acknowledged, last_words, send
from chaos.plants import PLANTS, plant
from chaos.proof import Tree, Verdict

DISK = 96 * 1024 * 1024
SMALL, MIDDLE = 20_000, 600_000

_FS_IOC_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2


@define
class _Ext4:
    """The file system, in a file in memory."""

    image: Path
    path: Path

    def make(self) -> None:
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(DISK)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True, capture_output=True)
        self.mount()

    def mount(self) -> None:
        # As careless as it can be: what nobody synced is to be lost.
        mount("ext4", "loop,commit=300,data=writeback", str(self.image), self.path)
        self.path.chmod(0o700)

    def cut(self) -> None:
        """As if the power had gone."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)


@click.command()
@click.option("--times", default=100, show_default=True, help="Shutdowns.")
@click.option("--plant", "bug", type=click.Choice(list(PLANTS)), help="A bug to be noticed.")
@click.option("--seed", type=int, default=None, help="For the same again.")
@click.option("--inside", is_flag=True, hidden=True, help="The place for mounting is there.")
def command(times: int, bug: str | None, seed: int | None, inside: bool) -> None:
    """Shut ext4 down at random moments: 0 acknowledged files lost, and a rerun completes."""
    seed = random.randrange(2**32) if seed is None else seed
    if inside:
        _run(times, bug, seed)
        return
    if shutil.which("mkfs.ext4") is None:
        print("skipped: there is no mkfs.ext4 here (package e2fsprogs).")
        return
    args = ["--times", str(times), "--seed", str(seed)]
    run_inside("shutdown", args if bug is None else [*args, "--plant", bug], root=True)


def _run(times: int, bug: str | None, seed: int) -> None:
    rng = random.Random(seed)
    figures = Figures(seed)
    verdict = Verdict()
    stuck: list[str] = []
    promises = 0
    warm()
    above = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    root = Path(tempfile.mkdtemp(prefix="lanxfer-chaos-", dir=above))
    here, disk = Place(root), _Ext4(root / "disk", root / "receiver")
    service = Service(here, before=lambda: plant(bug))
    try:
        try:
            disk.make()
        except subprocess.CalledProcessError as error:
            print(f"skipped: ext4 cannot be mounted here: {error.stderr.decode().strip()}")
            return
        here.pair()
        os.sync()
        for number in range(times):
            sizes = [rng.randrange(SMALL) for _ in range(rng.randrange(2, 30))]
            sizes += [rng.randrange(MIDDLE) for _ in range(rng.randrange(3))]
            rng.shuffle(sizes)
            tree = Tree.make(rng, root / f"tree-{number}", sizes, here.inbox, taken=number % 2)
            os.sync()
            when = f"shutdown {number}"
            told = _cut(rng, here, disk, service)
            promises += len(told)
            verdict.examine(here.inbox, tree, told, when)
            service.begin()
            sender = send(here, service.port, [tree.path], "again")
            if sender.wait() == 0:
                verdict.examine_end(here.inbox, tree, here.parts(), f"{when}, sent again")
            else:
                sender.kill()
                stuck.append(f"{when}: {last_words(here, 'again')}")
            service.kill()
            tree.clear(here.inbox)
            figures.tell(number + 1, times, "shutdowns")
    finally:
        service.kill()
        unmount(disk.path)
        shutil.rmtree(root, ignore_errors=True)
    figures.add("shutdowns", times)
    figures.add("promises looked for", promises, least=1)
    verdict.show(figures)
    figures.add("sends that never went through", len(stuck), most=0)
    for each in stuck[:5]:
        print(f"  {each}")
    figures.finish()


def _cut(rng: random.Random, here: Place, disk: _Ext4, service: Service) -> dict[str, str]:
    """Begin a transfer, cut the power, and come back; what was acknowledged until then."""
    Path(here.file("first")).unlink(missing_ok=True)
    service.begin()
    (tree,) = here.root.glob("tree-*")
    sender = send(here, service.port, [tree], "first")
    time.sleep(rng.uniform(0.0, 0.25))
    disk.cut()
    sender.wait()
    sender.kill()
    service.kill()
    unmount(disk.path)
    disk.mount()
    return acknowledged(here, "first")
