"""Two devices in one process, and everything that can happen between them, by the number.

A seed is a story: what is sent, what arrives in which pieces and when, which
thread is slow, where a connection breaks, who crashes, cancels, pauses.  Time
is a number.  After every step the laws are asked; then the faults stop, and
both sides must come to the same end within ``CALM`` seconds of their time.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import click
from attrs import define, field
from twisted.internet.defer import Deferred

from chaos.figures import Figures
from chaos.laws import Job, Laws
from chaos.logged import watched_log
from chaos.world import Device, Life, World, outcome_of, small_limits
from lanxfer.errors import LanxferError, NotFound, Stopping
from lanxfer.node import Incoming
from lanxfer.storage import sources
from lanxfer.storage.sources import Entry
from lanxfer.transfers import Conflict, Direction, Kind, Receipt, Snapshot, State

CALM = 200.0
"""Seconds without faults after which nothing may be undecided any more."""

SETTLED = 10.0
"""Seconds without faults after which nobody may still say that patience ran out over them."""

STEPS = 300
CHUNK = 50
"""Seeds that a process takes at a time."""

_CONFLICTS = (None, None, None, Conflict.RENAME, Conflict.SKIP, Conflict.REFUSE)
_SIZES = (0, 1, 100, 255, 256, 257, 512, 900, 1500, 3000, 6000)
_SMALL_SIZES = (0, 1, 20, 100, 200, 255, 256, 300, 900, 3000, 6000)
"""Of files in folders; those of up to 4,096 bytes may go together."""
_RATES = (None, None, None, 2_000, 10_000, 40_000)
"""Bytes a second that devices send at most."""
_MTIMES = (1_600_000_000_000_000_000, 1_600_000_001_000_000_000)


class Story:
    """One seed, told once; ``trace`` keeps its lines if it is a list."""

    def __init__(self, seed: int, folder: str, trace: list[str] | None = None) -> None:
        sources.forget_marks()
        self.seed = seed
        self.rng = random.Random(seed)
        self.folder = folder
        self.trace = trace
        self.counts: Counter[str] = Counter()
        self.laws = Laws()
        self._asks = self.rng.random() < 0.3
        rate = self.rng.choice(_RATES)
        self.world = self.laws.world = World(self.rng, self.laws.files, self._asks, rate)
        self.world.on_told = self._told
        self.world.on_message = self.laws.message
        self.world.on_offer = self._on_offer
        self._trouble = self.rng.choice((0.0, 0.02, 0.05, 0.1))
        self._jobs_max = self.rng.randint(1, 6)
        self._last_content = b""
        self._calm_since = math.inf

    def say(self, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.world.now - 1_700_000_000:9.3f} {what}")

    def _told(self, life: Life, now: Snapshot) -> None:
        if self.trace is not None:
            why = f" {now.code}" if now.code else ""
            self.say(
                f"{life.device.name}: {now.id} {now.direction.value} {now.path}"
                f" {now.state.value} {now.done}/{now.size}{why}"
            )
        small = now.direction is Direction.IN and now.kind is Kind.FILE
        if small and now.state is State.DONE and now.id not in self.laws._last:
            self.counts["together"] += 1
        self.laws.told(life, now)

    def _on_offer(self, life: Life, offer: Incoming) -> Any:
        choice = self.rng.random()
        if choice < 0.5:
            return None
        if choice < 0.6:
            return False
        answer: Deferred[object] = Deferred()
        life.clock.callLater(self.rng.random() * 3, _answer, answer, self.rng.random() < 0.9)
        return answer

    # The story.

    def tell(self) -> list[str]:
        """What was broken; the first breach ends it."""
        with watched_log(self.laws.breach):
            try:
                self._new_job()
                for _ in range(STEPS):
                    self._step()
                    if self.laws.breaches:
                        return self.laws.breaches
                self._calm()
            finally:
                breaches = list(self.laws.breaches)
                self.world.end()
        self.counts["acknowledged"] += self.laws.acknowledged
        return breaches

    def _step(self) -> None:
        choice = self.rng.random()
        if choice < self._trouble:
            self._fault()
        elif choice < 0.13:
            self._event()
        elif choice < 0.60:
            self._move()
        elif choice < 0.86:
            self._work()
        else:
            self._time()

    def _move(self) -> None:
        ends = [(link, end) for link in self.world.links for end in link.moving()]
        if not ends:
            self._time()
            return
        link, end = self.rng.choice(ends)
        most = self.rng.choice((1, 7, 60, 300, 1 << 20, 1 << 20, 1 << 20))
        moved = self.world.step_link(link, end, most)
        if moved:
            self.say(f"link {link.number} {end.host.host}: {moved}")
        if link.over:
            self.world.links.remove(link)

    def _work(self) -> None:
        lives = [life for life in self.world.lives() if life.disk.waiting]
        if not lives:
            self._move()
            return
        life = self.rng.choice(lives)
        # Four threads: what was begun first need not be done first.
        at = self.rng.randrange(min(4, life.disk.waiting))
        self.say(f"{life.device.name}: disk {at} of {life.disk.waiting}")
        life.disk.work_at(at)

    def _time(self) -> None:
        passing = self.rng.choice((0.001, 0.01, 0.1, 0.3, 1.0, 1.0, 8.0))
        self.world.advance(passing)

    # What users do.

    def _event(self) -> None:
        choice = self.rng.random()
        if choice < 0.4 and len(self.laws.jobs) < self._jobs_max:
            self._new_job()
        elif choice < 0.44:
            self._cancel()
        elif choice < 0.6:
            self._pause(self.rng.random() < 0.5)
        elif choice < 0.68:
            self._change()
        elif choice < 0.70:
            device = self.rng.choice(self.world.devices)
            if device.life.alive:
                self.say(f"{device.name}: closes its client")
                self._quiet(device.life.client.close(self.rng.choice((0.1, 1.0, 10.0))))
                device.life.client = device.life.new_client()
                for job in self.laws.jobs:
                    job.closed = job.closed or (job.device is device and job.outcome is None)
        else:
            self._move()

    def _new_job(self) -> None:
        lives = self.world.lives()
        if not lives:
            return
        device = self.rng.choice(lives).device
        number = len(self.laws.jobs)
        choice = self.rng.random()
        if choice < 0.15:
            job = Job(number, device, Kind.MESSAGE, f"text {number}", versions=[])
        elif choice < 0.4:
            job = Job(number, device, Kind.FOLDER, "album", os.path.join(self.folder, f"{number}"))
            job.conflict = self.rng.choice(_CONFLICTS)
        else:
            job = self._file(number, device)
        self.laws.jobs.append(job)
        if job.kind is Kind.FOLDER:
            self.laws.jobs += self._album(job)
        self.counts["jobs"] += 1
        self._start(job)

    def _album(self, folder: Job) -> list[Job]:
        """Some files in a folder of that name, most of them small."""
        rng, made = self.rng, []
        shutil.rmtree(os.path.join(folder.path, folder.name), ignore_errors=True)
        for number in range(rng.choice((1, 3, 10, 30))):
            name = f"{rng.choice(('', '', 'below/'))}{number}.bin"
            path = os.path.join(folder.path, folder.name, name)
            content = rng.randbytes(rng.choice(_SMALL_SIZES))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(path, content, rng.choice(_MTIMES))
            job = Job(folder.number, folder.device, Kind.FILE, f"{folder.name}/{name}", path)
            job.versions, job.within = [content], folder
            made.append(job)
        return made

    def _file(self, number: int, device: Device) -> Job:
        again = [
            job
            for job in self.laws.jobs
            if job.kind is Kind.FILE and job.device is device and job.within is None
        ]
        rng = self.rng
        conflict = rng.choice(_CONFLICTS)
        queued = rng.random() < 0.25
        if again and rng.random() < 0.2:
            same = rng.choice(again)
            return Job(
                number, device, Kind.FILE, same.name, same.path, conflict, queued, same.versions
            )
        name = rng.choice(("a.bin", "a.bin", "b.bin"))
        path = os.path.join(self.folder, str(number), name)
        content = rng.randbytes(rng.choice(_SIZES))
        if self._last_content and rng.random() < 0.2:
            # The same beginning, and the same length: nothing but digests tells them apart.
            half = len(self._last_content) // 2
            content = self._last_content[:half] + rng.randbytes(len(self._last_content) - half)
        self._last_content = content
        job = Job(number, device, Kind.FILE, name, path, conflict, queued, [content])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _write(path, content, rng.choice(_MTIMES))
        return job

    def _start(self, job: Job) -> None:
        life = job.device.life
        if job.within is not None:
            return  # it goes with its folder
        size = len(job.versions[-1]) if job.versions else len(job.name)
        self.say(f"{job.device.name}: sends {job.name} ({size}){' later' if job.queued else ''}")
        done: Deferred[Any]
        if job.kind is Kind.MESSAGE:
            done = life.client.send_message(job.name)
        elif job.kind is Kind.FOLDER:
            files = {each.name: each for each in self.laws.jobs if each.within is job}
            for each in files.values():
                each.outcome = None
            done = life.client.send_paths(
                [os.path.join(job.path, job.name)],
                conflict=job.conflict,
                on_entry=lambda entry, outcome: self._came(files, life, entry, outcome),
            )
        elif job.queued:
            done = Deferred.fromCoroutine(
                life.outgoing.send({"path": job.path, "peer": "other", "wait": False})
            )
        else:
            done = life.client.send_file(job.path, conflict=job.conflict)
        outcome_of(done, partial(self._decided, job, life))

    def _came(
        self, files: dict[str, Job], life: Life, entry: Entry, outcome: Receipt | LanxferError
    ) -> None:
        if entry.path in files:
            self._decided(files[entry.path], life, outcome)

    def _decided(self, job: Job, life: Life, outcome: object) -> None:
        if life.alive:
            self.say(f"{job.device.name}: {job.name} ends with {_shown(outcome)}")
            job.outcome = outcome
            job.calm = self.world.now > self._calm_since + SETTLED

    def _cancel(self) -> None:
        found = [(life, each) for life in self.world.lives() for each in life.registry.pending()]
        if not found:
            return
        life, snapshot = self.rng.choice(found)
        self.say(f"{life.device.name}: cancels {snapshot.id}")
        self.counts["cancels"] += 1
        with suppress(NotFound):
            life.registry.cancel(snapshot.id)

    def _pause(self, paused: bool) -> None:
        found = [
            (life, each)
            for life in self.world.lives()
            for each in life.registry._open.values()
            if each.state in (State.MOVING, State.ACCEPTED, State.PAUSED)
        ]
        if found:
            life, transfer = self.rng.choice(found)
            self.say(f"{life.device.name}: {'pauses' if paused else 'resumes'} {transfer.id}")
            transfer.pause(paused)

    def _change(self) -> None:
        files = [job for job in self.laws.jobs if job.kind is Kind.FILE]
        # There are many more in folders, most of which are sent at once.
        alone = [job for job in files if job.within is None]
        if not files:
            return
        job = self.rng.choice(alone if alone and self.rng.random() < 0.8 else files)
        kept = self.rng.random() < 0.5
        size = len(job.versions[-1]) if kept else self.rng.choice(_SIZES)
        content = self.rng.randbytes(size)
        job.versions.append(content)
        self.say(f"{job.path} changes to {size}")
        _write(job.path, content, 1_650_000_000_000_000_000 + len(job.versions))

    def _quiet(self, done: Deferred[Any]) -> None:
        done.addErrback(lambda why: why.trap(LanxferError) and None)

    # Faults.

    def _fault(self) -> None:
        world, rng = self.world, self.rng
        choice = rng.random()
        if choice < 0.45:
            if world.links:
                link = rng.choice(world.links)
                self.say(f"link {link.number} is cut")
                self.counts["cuts"] += 1
                link.wire.cut_off()
        elif choice < 0.6:
            if world.links:
                link = rng.choice(world.links)
                if link.stalled is None:
                    self.say(f"link {link.number} is silent")
                    self.counts["stalls"] += 1
                    link.stalled = world.now
                else:
                    self.say(f"link {link.number} speaks again")
                    link.stalled = None
        elif choice < 0.75:
            world.down = not world.down
            self.say(f"the network is {'down' if world.down else 'up'}")
        else:
            device = rng.choice(world.devices)
            if device.life.alive:
                self._crash(device)
            else:
                self._boot(device)

    def _crash(self, device: Device) -> None:
        self.say(f"{device.name} crashes")
        self.counts["crashes"] += 1
        self.world.crash(device)
        for job in self.laws.jobs:
            # What arrived before may be known to nobody here, so a later cancel can be wrong.
            under_way = (job.within or job).outcome is None
            job.crashed = job.crashed or (job.device is device and under_way)

    def _boot(self, device: Device) -> None:
        self.say(f"{device.name} begins anew")
        self.world.boot(device)
        self._quiet(Deferred.fromCoroutine(device.life.outgoing.begin()))
        for job in self.laws.jobs:
            if job.device is not device or job.outcome is not None:
                continue
            if job.kind is Kind.MESSAGE:
                job.outcome = Stopping()
            else:
                self._start(job)

    # The end of the story.

    def _calm(self) -> None:
        world = self.world
        self.say("no more faults")
        self._calm_since = world.now
        world.down = False
        for link in world.links:
            link.stalled = None
        for device in world.devices:
            if not device.life.alive:
                self._boot(device)
        until = world.now + CALM
        while not self.laws.breaches:
            world.rest()
            for life in world.lives():
                for transfer in life.registry._open.values():
                    if transfer.state is State.PAUSED:
                        transfer.pause(False)
            if world.rest():
                continue
            timer = world.next_timer()
            if timer is None or timer > until:
                break
            world.advance(max(0.0, timer - world.now))
            if self._decided_all() and not any(len(life.registry) for life in world.lives()):
                world.rest()
                break
        self.laws.finished()
        if not self.laws.breaches:
            self._close()

    def _decided_all(self) -> bool:
        return all(job.outcome is not None for job in self.laws.jobs) and not any(
            life.outgoing._waiting for life in self.world.lives()
        )

    def _close(self) -> None:
        """Say goodbye: nothing is left of the connections, and no timer of theirs."""
        world = self.world
        for life in world.lives():
            self._quiet(life.client.close(5.0))
            life.outgoing.end()
        for _ in range(100):
            world.rest()
            timer = world.next_timer()
            if timer is None or timer > world.now + 120.0:
                break
            world.advance(max(0.0, timer - world.now))
        for link in world.links:
            if not any(end.gone for end in link.ends):
                continue
            self.laws.breach(f"link {link.number} is half open for ever")
        self.laws.finished()


def _answer(answer: Deferred[object], yes: bool) -> None:
    if not answer.called:
        answer.callback(None if yes else False)


def _write(path: str, content: bytes, mtime_ns: int) -> None:
    with open(path, "wb") as file:
        file.write(content)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def _shown(outcome: object) -> str:
    return outcome.code if isinstance(outcome, LanxferError) else "done"


@define
class Told:
    """What became of some seeds."""

    breaches: list[tuple[int, str]] = field(factory=list)
    counts: Counter[str] = field(factory=Counter)


def run(seeds: range) -> Told:
    """Tell these stories, one after another."""
    told = Told()
    folder = tempfile.mkdtemp(prefix="lanxfer-sim-", dir=_memory())
    try:
        with small_limits():
            for seed in seeds:
                story = Story(seed, folder)
                breaches = story.tell()
                told.counts += story.counts
                if breaches:
                    told.breaches.append((seed, breaches[0]))
    finally:
        shutil.rmtree(folder)
    return told


def replay(seed: int) -> tuple[list[str], list[str]]:
    """The trace and the breaches of one seed."""
    trace: list[str] = []
    folder = tempfile.mkdtemp(prefix="lanxfer-sim-", dir=_memory())
    try:
        with small_limits():
            breaches = Story(seed, folder, trace).tell()
    finally:
        shutil.rmtree(folder)
    return [line.replace(folder, "…") for line in trace], breaches


def _memory() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _chunks(first: int, count: int) -> list[range]:
    end = first + count
    return [range(at, min(at + CHUNK, end)) for at in range(first, end, CHUNK)]


@click.command(help=__doc__)
@click.option("--seeds", default=1000, show_default=True, help="how many stories")
@click.option("--seed", default=1, show_default=True, help="the first of them")
@click.option("--processes", default=1, show_default=True)
@click.option("--first", is_flag=True, help="stop at the first breach")
@click.option("--trace", is_flag=True, help="tell the story of --seed, step by step")
def command(seeds: int, seed: int, processes: int, first: bool, trace: bool) -> None:
    if trace:
        lines, breaches = replay(seed)
        print("\n".join([*lines, *(f"BREACH {each}" for each in breaches)]))
        figures = Figures(seed)
        figures.add("breaches", len(breaches), most=0)
        figures.finish()
    figures = Figures(seed)
    found = Told()
    chunks = _chunks(seed, seeds)

    def take(told: Told) -> None:
        found.breaches += told.breaches
        found.counts.update(told.counts)
        found.counts["chunks"] += 1
        figures.tell(min(found.counts["chunks"] * CHUNK, seeds), seeds, "seeds")

    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            for told in pool.map(run, chunks):
                take(told)
    else:
        for chunk in chunks:
            take(run(chunk))
            if first and found.breaches:
                break
    for number, what in found.breaches[:5]:
        print(f"seed {number}: {what}")
        print("\n".join(replay(number)[0]))
    for name in ("jobs", "acknowledged", "together", "cancels", "cuts", "stalls", "crashes"):
        figures.add(name, found.counts[name])
    figures.add("seeds in breach", len(found.breaches), most=0)
    figures.finish()
