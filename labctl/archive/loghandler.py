"""Log records as JSON lines in the run folder; tracebacks go here and not to the terminal."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from labctl.archive.atomic import append_line
from labctl.archive.ids import timestamp
from labctl.errors import StorageError


class JsonLogHandler(logging.Handler):
    """Append each record to ``log.jsonl``. A disk that is full, or a folder that is gone, stops the run where data
    is written, and not here."""

    def __init__(self, path: Path, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self.path = path
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        line = {"at": timestamp(), "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info and self.formatter:
            line["traceback"] = self.formatter.formatException(record.exc_info)
        with suppress(StorageError):
            append_line(self.path, line)
