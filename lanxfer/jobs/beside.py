"""Jobs beside a transfer service: in its history, and let out of its sandbox."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred

from lanxfer.jobs.config.app import read_app
from lanxfer.jobs.config.job import read_job
from lanxfer.jobs.errors import ConfigError
from lanxfer.jobs.schedule import JobsService, scheduled
from lanxfer.service import Settings, TransferService
from lanxfer.storage.plain import make_folder
from lanxfer.storage.private import make_private


class ServiceWithJobs(Service):
    """A transfer service, and the jobs of a configuration file beside it, in its history."""

    def __init__(self, reactor: Any, transfers: TransferService, app_cfg: str) -> None:
        self.transfers = transfers
        self.jobs = JobsService(
            reactor,
            app_cfg,
            on_end=lambda snapshot: transfers.registry.note(snapshot),
            new_id=lambda: transfers.registry.new_id(),
            state=transfers.settings.state,
        )

    def startService(self) -> None:
        super().startService()
        self.transfers.startService()
        self.jobs.startService()

    def stopService(self) -> Deferred[None]:
        """The jobs first: the history is to know how they ended."""
        super().stopService()

        async def stop() -> None:
            await self.jobs.stopService()
            await self.transfers.stopService()

        return Deferred.fromCoroutine(stop())


def with_jobs(settings: Settings, app_cfg: str) -> Settings:
    """Leave the folders that jobs write to open, where the service confines itself."""
    found = (*settings.also_writable, *writable(app_cfg, settings.state))
    return evolve(settings, also_writable=found) if settings.sandbox else settings


def writable(app_cfg: str, state: str) -> tuple[str, ...]:
    """The folders of this machine that scheduled jobs change; made where they are missing."""
    app = read_app(app_cfg, state)
    make_private(app.locks_dir)
    folders = [app.locks_dir, app.logging.log_dir]
    for id in scheduled(app_cfg):
        try:
            config = read_job(app_cfg, id)
        except ConfigError:
            continue
        if config.target.host.kind == "local":
            folders.append(config.target.path)
        if config.source.host.kind == "local" and (config.source.delete or config.ready_file):
            folders.append(config.source.path)
    found = tuple(dict.fromkeys(each for each in folders if each))
    for each in found:
        make_folder(each)
    return found
