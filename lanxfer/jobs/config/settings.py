"""The settings of a job, as values; docs/jobs.rst says what each of them means."""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import urlsplit

from attrs import field, frozen

from lanxfer.jobs.config.rules import Rules, Temp

Sections: TypeAlias = dict[str, dict[str, str]]

PORTS = {"ftp": 21, "ftps": 21, "sftp": 22, "lanxfer": 36969, "smtp": 25}

CONNECT_TIMEOUT = 30.0
PROGRESS_TIMEOUT = 60.0


class Password:
    """A secret that no log and no traceback shows; ``reveal`` is for who has to say it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Password) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@frozen(kw_only=True)
class Host:
    """Where a source or target is.

    ``kind`` is "local", "ftp", "ftps", "sftp", "lanxfer" or "fsspec:PROTOCOL".
    Timeouts are in seconds, None for none; ``keep_alive`` too, 0 for never.
    ``peer`` is how the other lanxfer device is named or found.
    """

    id: str = ""
    kind: str = "local"
    host: str = ""
    port: int = 0
    peer: str = ""
    user: str = ""
    password: Password | None = None
    connect_timeout: float | None = CONNECT_TIMEOUT
    progress_timeout: float | None = PROGRESS_TIMEOUT
    passive_mode: bool = True
    encrypt_data: bool = True
    dir_a_option: bool = False
    keep_alive: float = 0.0
    tls_verify: bool = True
    tls_ca: str = ""
    key_type: str = ""
    key_file: str = ""
    key_pass: Password | None = None
    known_hosts: str = ""
    state: str = ""
    token_file: str = ""
    plain: bool = False
    options: dict[str, Password] = field(factory=dict)
    """What an fsspec back end wants to know beside these; any of it may be secret."""

    @property
    def name(self) -> str:
        """How logs and mails call it."""
        if self.kind == "local":
            return "this machine"
        if self.kind == "lanxfer":
            return self.peer
        return f"{self.host}:{self.port}" if self.port else self.host or self.kind

    def url(self, path: str) -> str:
        """A place on it, without anything secret."""
        if self.kind == "local":
            return f"file://{path}"
        return f"{self.kind}://{self.name}/{path.lstrip('/')}"


@frozen(kw_only=True)
class Source:
    """Where the files come from."""

    path: str
    host: Host = field(factory=Host)
    rules: Rules = field(factory=Rules)
    delete: bool = False

    @property
    def url(self) -> str:
        return self.host.url(self.path)


@frozen(kw_only=True)
class Target:
    """Where the files go.

    ``skip`` says what is there already: same "size,mtime", same "digest", or
    nothing ever ("none").  ``verify`` "digest" reads back what was written,
    "size" looks at its size, "auto" is digest where the source is removed.
    ``conflict`` is for the inbox of a lanxfer device; with ``shared`` the path
    begins with a folder that it shares instead.
    """

    path: str
    host: Host = field(factory=Host)
    temp: Temp = field(factory=Temp)
    skip: str = "size,mtime"
    verify: str = "auto"
    conflict: str = "overwrite"
    shared: bool = False

    @property
    def url(self) -> str:
        return self.host.url(self.path)


@frozen(kw_only=True)
class Logging:
    """Where the log of a run goes; "" is standard error."""

    log_dir: str = ""
    use_subdirs: bool = False
    msg_format: str = "%(asctime)s %(levelname)-8s %(message)s"
    log_level: str = "INFO"
    disabled: bool = False
    json: bool = False


@frozen(kw_only=True)
class MailServer:
    """How mail leaves; ``security`` is "", "STARTTLS" or "TLS"."""

    host: str
    port: int
    sender: str
    security: str = ""
    user: str = ""
    password: Password | None = None
    tls_verify: bool = True
    tls_ca: str = ""


def is_sink(text: str) -> bool:
    """Whether that is a command or a web hook, and no mail address."""
    return text.startswith(("exec:", "http://", "https://"))


def shown_sink(text: str) -> str:
    """Whom to tell, without what stands after the host of a web hook: often that is its secret."""
    if not text.startswith(("http://", "https://")):
        return text
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/..."


def _shown(whom: tuple[str, ...]) -> str:
    return repr(tuple(map(shown_sink, whom)))


@frozen(kw_only=True)
class Notify:
    """Who is told: mail addresses, ``exec:COMMAND``, ``http://`` and ``https://`` URLs."""

    success: tuple[str, ...] = field(default=(), repr=_shown)
    error: tuple[str, ...] = field(default=(), repr=_shown)
    done: tuple[str, ...] = field(default=(), repr=_shown)
    mail_cfg: str = ""

    def whom(self, good: bool) -> tuple[str, ...]:
        """Everybody to be told of a run that went well, or that did not; each once."""
        return tuple(dict.fromkeys((self.success if good else self.error) + self.done))

    def plus(self, other: Notify) -> Notify:
        """This and what a job adds to it."""
        return Notify(
            success=self.success + other.success,
            error=self.error + other.error,
            done=self.done + other.done,
            mail_cfg=other.mail_cfg or self.mail_cfg,
        )


@frozen(kw_only=True)
class Schedule:
    """When the service runs a job by itself; ``every`` and ``settle`` in seconds."""

    every: float = 0.0
    cron: str = ""
    watch: bool = False
    settle: float = 2.0
    poll: float = 10.0

    def __bool__(self) -> bool:
        return bool(self.every or self.cron or self.watch)


@frozen(kw_only=True)
class AppConfig:
    """What all jobs of one file have in common."""

    path: str = ""
    jobs_dir: str = ""
    job_cfg_ext: str = ".cfg"
    hosts_cfg: str = ""
    collect_data: bool = False
    mail_cfgs_dir: str = ""
    locks_dir: str = ""
    logging: Logging = field(factory=Logging)
    sftp: dict[str, str | Password] = field(factory=dict)
    mail: MailServer | None = None
    notify: Notify = field(factory=Notify)
    base: str = ""
    """What relative paths of this and of the jobs' files begin with."""
    own: Sections = field(factory=dict, repr=False)
    """The sections that lanxfer leaves to the application, without their ``x:``."""
    warnings: tuple[str, ...] = ()


@frozen(kw_only=True)
class JobConfig:
    """One job, whole."""

    id: str
    source: Source
    target: Target
    name: str = ""
    info: str = ""
    collect_data: bool = False
    lock: str = ""
    ready_file: str = ""
    retries: int = 0
    logging: Logging = field(factory=Logging)
    notify: Notify = field(factory=Notify)
    schedule: Schedule = field(factory=Schedule)
    app: AppConfig = field(factory=AppConfig)
    own: Sections = field(factory=dict, repr=False)
    """Those sections of both files; what the job says goes before what the application says."""
    warnings: tuple[str, ...] = ()
    """What is in the files and was not understood."""
