"""What a mail about a run says: a template file, or the one that is built in.

A template has a line ``name: value`` for each of the names below; ``message:``
comes last, and all lines after it are the text.  ``\\n`` in a value is a new line.
"""

from __future__ import annotations

import re
import traceback
from string import Template

from attrs import frozen

from lanxfer.jobs.errors import ConfigError, Terminated
from lanxfer.jobs.telling.reports import Report, counts, file_list

NAMES = (
    "datetime_format",
    "duration_format",
    "stat_success",
    "stat_errors",
    "stat_failure",
    "stat_config",
    "stat_terminated",
    "stat_other",
    "status_ok",
    "status_err",
    "subject",
    "message",
)

PLACEHOLDERS = {
    *("jobid", "jobname", "starttime", "endtime", "duration", "info", "source", "target"),
    *("logfile", "statstr", "status", "counts", "errormsg", "stacktrace", "filelist"),
}

_PHRASES = {0: "stat_success", 1: "stat_errors", 2: "stat_failure", 3: "stat_config"}
_PHRASES[Terminated.code] = "stat_terminated"

DEFAULT = """\
datetime_format: %Y-%m-%d %H:%M:%S
duration_format: %H:%M:%S
stat_success: all files were transferred
stat_errors: some files were not transferred
stat_failure: the job failed
stat_config: the configuration is not right
stat_terminated: the job was ended before it was done
stat_other: something went wrong
status_ok: OK
status_err: ERROR
subject: [$status] $jobname: $statstr
message:
$jobname ($jobid): $statstr

$info

From:   $source
To:     $target
Began:  $starttime
Ended:  $endtime ($duration)
Result: $counts
Log:    $logfile

$errormsg

$filelist

$stacktrace
"""


@frozen
class Mail:
    """A subject, and a text."""

    subject: str
    text: str


@frozen
class MailTemplate:
    """A template that was found to be whole."""

    values: dict[str, str]

    def render(self, report: Report) -> Mail:
        """The mail about a run."""
        values = self._values(report)
        subject = Template(self.values["subject"]).substitute(values)
        text = "\n".join(_filled(line, values) for line in self.values["message"].split("\n"))
        # Whatever had nothing to say leaves no hole.
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.split("\n")))
        return Mail(" ".join(subject.split()), text.strip("\n") + "\n")

    def _values(self, report: Report) -> dict[str, str]:
        job, error = report.job, report.error
        when = self.values["datetime_format"]
        phrase = self.values[_PHRASES.get(report.code, "stat_other")]
        unexpected = error is not None and report.code == 2 and not hasattr(error, "reason")
        trace = "".join(traceback.format_exception(error)) if unexpected else ""
        return {
            "jobid": job.id,
            "jobname": job.name,
            "starttime": report.started.strftime(when),
            "endtime": report.ended.strftime(when),
            "duration": _duration(
                (report.ended - report.started).total_seconds(), self.values["duration_format"]
            ),
            "info": job.info,
            "source": job.source.url,
            "target": job.target.url,
            "logfile": report.log_file,
            "statstr": phrase,
            "status": self.values["status_ok" if report.good else "status_err"],
            "counts": counts(report.result),
            "errormsg": "" if error is None else str(error),
            "stacktrace": trace.rstrip(),
            "filelist": file_list(report.result),
        }


def parse_template(text: str) -> MailTemplate:
    """A template from the text of its file; ConfigError says what is wrong with it."""
    values: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or name not in NAMES:
            raise ConfigError(f"A mail template has no {name!r}.")
        if name in values:
            raise ConfigError(f"The mail template says {name!r} twice.")
        if name == "message":
            # Its own line may say something, too.
            rest = "\n".join(lines)
            value = f"{value.strip()}\n{rest}" if value.strip() else rest
        else:
            value = value.strip()
        values[name] = value.replace("\\n", "\n")
    missing = [name for name in NAMES if name not in values]
    if missing:
        raise ConfigError(f"The mail template does not say {', '.join(missing)}.")
    for name in ("subject", "message"):
        template = Template(values[name])
        unknown = sorted(set(template.get_identifiers()) - PLACEHOLDERS)
        if not template.is_valid() or unknown:
            what = f"${unknown[0]}" if unknown else "a single $"
            raise ConfigError(f"The {name} of the mail template has {what}, which means nothing.")
    return MailTemplate(values)


def load_template(path: str) -> MailTemplate:
    """A template from its file; ConfigError where that is missing or broken."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_template(file.read())
    except OSError as error:
        raise ConfigError(f"The template {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The template {path} is not UTF-8.") from None


def default_template() -> MailTemplate:
    """The one that is built in."""
    return parse_template(DEFAULT)


_PLACE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")


def _filled(line: str, values: dict[str, str]) -> str:
    """One line; what has several lines keeps the column it begins at."""
    out = ""
    at = 0
    for found in _PLACE.finditer(line):
        out += line[at : found.start()]
        name = found[1] or found[2]
        column = len(out) - out.rfind("\n") - 1
        value = "$" if name is None else values[name]
        out += value.replace("\n", "\n" + " " * column)
        at = found.end()
    return out + line[at:]


def _duration(seconds: float, form: str) -> str:
    whole = int(seconds)
    parts = {
        "%H": f"{whole // 3600:02d}",
        "%M": f"{whole // 60 % 60:02d}",
        "%S": f"{whole % 60:02d}",
        "%s": f"{seconds:.1f}",
    }
    for name, text in parts.items():
        form = form.replace(name, text)
    return form
