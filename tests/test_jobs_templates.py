"""What mails say."""

from __future__ import annotations

import logging
from datetime import datetime

import pytest
from attrs import evolve

from lanxfer.jobs import ConfigError, ConnectError, FileTag, JobResult, Terminated
from lanxfer.jobs.config.job import read_sections
from lanxfer.jobs.config.settings import Notify
from lanxfer.jobs.results import Row
from lanxfer.jobs.telling import mail_template
from lanxfer.jobs.telling.reports import Report
from lanxfer.jobs.telling.templates import DEFAULT, NAMES, default_template, parse_template

JOB = evolve(
    read_sections({"path": "/in"}, {"path": "/out"}),
    id="night",
    name="Every night",
    info="All of it,\nto the cellar",
)
RESULT = JobResult(
    1, 0, 1, (Row("a.txt", 0.25, FileTag.TRANSF), Row("b.txt", "No space.", FileTag.TGTERR)), 5
)
STARTED, ENDED = datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 4, 5, 7)

TEMPLATE = r"""datetime_format: %d.%m.%Y %H:%M
duration_format: %H:%M:%S
stat_success: alles da
stat_errors: Fehler bei Dateien
stat_failure: nichts ging
stat_config: falsch eingestellt
stat_terminated: abgebrochen
stat_other: was anderes
status_ok: GUT
status_err: SCHLECHT
subject: [$status] $jobname: $statstr

message:
Lauf $jobid, $$5
  Info:  $info
  von $source nach ${target}
  $starttime - $endtime ($duration)
  $counts
  Dateien:
    $filelist
  $errormsg
"""

GOLDEN = """Lauf night, $5
  Info:  All of it,
         to the cellar
  von file:///in nach file:///out
  02.01.2026 03:04 - 02.01.2026 04:05 (01:01:02)
  1 transferred, 0 source errors, 1 target errors, 0 skipped
  Dateien:
    = a.txt (0.250 s)
    < b.txt (No space.)
"""


def report(error: BaseException | None = None, result: JobResult | None = RESULT) -> Report:
    return Report(JOB, result, error, STARTED, ENDED, "/logs/x.log")


class TemplateTests:
    # covers: S4-70 S4-40
    def test_golden(self) -> None:
        """A template of one's own, with every placeholder in its place and its column."""
        mail = parse_template(TEMPLATE).render(report())
        assert mail.subject == "[SCHLECHT] Every night: Fehler bei Dateien"
        assert mail.text == GOLDEN

    # covers: S4-70
    @pytest.mark.parametrize(
        ("error", "result", "phrase"),
        [
            (None, JobResult(1), "alles da"),
            (None, RESULT, "Fehler bei Dateien"),
            (ConnectError("x"), RESULT, "nichts ging"),
            (ConfigError("x"), RESULT, "falsch eingestellt"),
            (Terminated(), RESULT, "abgebrochen"),
        ],
    )
    def test_phrases(self, error: BaseException | None, result: JobResult, phrase: str) -> None:
        """Every way a run can end has its phrase."""
        assert parse_template(TEMPLATE).render(report(error, result)).subject.endswith(phrase)

    def test_default(self) -> None:
        """The built-in one says all there is to say, and shows traces of what nobody expected."""
        mail = default_template().render(report(ValueError("odd")))
        for each in ("night", "Every night", "to the cellar", "/logs/x.log", "b.txt", "odd"):
            assert each in mail.text
        assert "Traceback" in default_template().render(report(_raised())).text
        assert "Traceback" not in default_template().render(report(ConnectError("x"))).text

    # covers: S4-71
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (DEFAULT.replace("subject:", "betreff:"), "betreff"),
            (DEFAULT.replace("status_ok: OK\n", ""), "status_ok"),
            (DEFAULT.replace("$jobname:", "$job:"), r"\$job"),
            (DEFAULT.replace("$jobname:", "$ :"), "single"),
            ("status_ok: x\n" + DEFAULT, "twice"),
            ("", NAMES[0]),
        ],
    )
    def test_broken(self, text: str, why: str) -> None:
        """A template that is not whole is said to be so, and how."""
        with pytest.raises(ConfigError, match=why):
            parse_template(text)

    # covers: S4-71 S4-33
    def test_fallback(self, tmp_path, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[no-untyped-def]
        """A template of the folder is used; a missing or broken one is warned of, and not used."""
        log = logging.getLogger("x")
        (tmp_path / "mine").write_text(TEMPLATE)
        (tmp_path / "broken").write_text("subject: x")
        app = evolve(JOB.app, mail_cfgs_dir=str(tmp_path))

        def subject(named: str, app=app) -> str:  # type: ignore[no-untyped-def]
            job = evolve(JOB, app=app, notify=Notify(mail_cfg=named))
            return mail_template(job, log).render(report()).subject

        assert subject("mine").startswith("[SCHLECHT]")
        assert not caplog.records
        for named in ("broken", "missing"):
            assert subject(named).startswith("[ERROR]")
        assert subject("mine", JOB.app).startswith("[ERROR]")
        assert len(caplog.records) == 3
        assert subject("default").startswith("[ERROR]")
        assert len(caplog.records) == 3


def _raised() -> ValueError:
    try:
        raise ValueError("odd")
    except ValueError as error:
        return error
