"""The log of one run: held back until it is known that the job really runs."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import datetime

from lanxfer.jobs.config.settings import Logging


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        row = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        return json.dumps(row)


class _Held(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class RunLog(logging.Logger):
    """A logger of its own, known to nobody else; ``activate``, then ``close``.

    ``file`` is where it is written, "" where that is no file.
    """

    def __init__(self, settings: Logging, job_id: str, started: datetime) -> None:
        super().__init__(f"lanxfer.jobs.{job_id}", settings.log_level)
        self._settings = settings
        self._held: _Held | None = None if settings.disabled else _Held()
        self._output: logging.Handler | None = None
        self.file = ""
        if settings.log_dir and not settings.disabled:
            name = f"{started:%Y%m%d-%H%M%S}.log"
            parts = (job_id, name) if settings.use_subdirs else (f"{job_id}_{name}",)
            self.file = os.path.join(settings.log_dir, *parts)
        self.addHandler(self._held or logging.NullHandler())

    def activate(self) -> None:
        """From now on it is written, and so is what was held back."""
        held, self._held = self._held, None
        if held is None:
            return
        self.removeHandler(held)
        try:
            self._output = self._open()
        except OSError as error:
            self.file = ""
            self._output = logging.StreamHandler(sys.stderr)
            held.records.append(
                self.makeRecord(
                    self.name, logging.WARNING, "", 0, f"The log is not written: {error}", (), None
                )
            )
        form = _Json() if self._settings.json else logging.Formatter(self._settings.msg_format)
        self._output.setFormatter(form)
        self.addHandler(self._output)
        for record in held.records:
            self._output.handle(record)

    def _open(self) -> logging.Handler:
        if not self.file:
            return logging.StreamHandler(sys.stderr)
        os.makedirs(os.path.dirname(self.file), exist_ok=True)
        # A name that is not UTF-8 is told of all the same.
        return logging.FileHandler(self.file, encoding="utf-8", errors="backslashreplace")

    def close(self) -> None:
        """Let go of the file; what was held back and never wanted is forgotten."""
        self._held = None
        for each in list(self.handlers):
            self.removeHandler(each)
        if self._output is not None:
            self._output.close()
