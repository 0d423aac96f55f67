"""The service's log: events with fields, one line each, on standard error.

``get_logger().info("container.started", pid=pid)`` has the name of an event and its variables,
never a sentence. Every line begins with its time, its level and its event, and has what
:func:`bind_log` has added in the same context, such as the request id. A log that can't be written
never makes the logged work fail.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from types import ModuleType
from typing import BinaryIO, Literal, TextIO, cast

import msgspec


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Have imports of a module fail in a ``with``, unless it is loaded already."""
    # importlib takes a module that is None for one that there is not.
    nothing = cast("ModuleType", None)
    found = sys.modules.setdefault(module, nothing)
    try:
        yield
    finally:
        if found is nothing:
            del sys.modules[module]


# Its records would have the name of a task of asyncio, which from Python 3.12 on is looked for as
# soon as the module is there, and so would be loaded. 3.11 does not know the variable.
vars(logging)["logAsyncioTasks"] = False

# structlog loads rich if it is installed, for tracebacks in colors, which are not ours: see
# ``_console``. That would cost every service 4 MiB, and 40 ms of its start.
with _hidden("rich"):
    import structlog
    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["auto", "console", "json"]

_LEVELS: Mapping[str, int] = {
    name.lower(): level for name, level in logging.getLevelNamesMapping().items()
}
# The same for the journal, in the numbers of syslog(3).
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def get_logger() -> FilteringBoundLogger:
    """A logger that obeys :func:`configure_logging`, also when made before it is called."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


# One variable for all fields: of structlog's, one for each, a line needs a third of its time.
_bound: ContextVar[Mapping[str, object]] = ContextVar("bound_fields")


def bind_log(**fields: object) -> None:
    """Add fields to every further line of the request that this thread handles."""
    _bound.set({**_bound.get({}), **fields})


def bound_fields() -> Mapping[str, object]:
    """The fields that :func:`bind_log` has added."""
    return _bound.get({})


def add_bound(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor that adds the fields of :func:`bind_log`; those of the event itself stay."""
    for key, value in _bound.get({}).items():
        event.setdefault(key, value)
    return event


def configure_logging(level: LogLevel = "info", log_format: LogFormat = "auto") -> None:
    """Send every event of at least ``level`` to standard error, once for the process.

    ``auto`` is the console form on a terminal and JSON otherwise. The lines have priorities if
    systemd's journal reads them. Events of libraries that use the standard library's ``logging``,
    and exceptions that end a thread, come out in the same form, as ``library.message`` and
    ``thread.died``.
    """
    lines = _Lines(sys.stderr.buffer)
    terminal = sys.stderr.isatty()
    console = log_format == "console" or (log_format == "auto" and terminal)
    structlog.configure(
        processors=[
            _drop_below_threshold,
            add_bound,
            structlog.processors.add_log_level,
            *(_console(terminal) if console else _JSON),
            *([_with_priority] if _is_journal(sys.stderr) else ()),
        ],
        # It lets all pass: loggers are kept once they are used, and the level may change.
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    logging.root.handlers = [_Forward()]
    set_log_level(level)
    logging.captureWarnings(True)
    threading.excepthook = _thread_died


def set_log_level(level: LogLevel) -> None:
    """Log events of at least ``level`` from now on."""
    logging.root.setLevel(_LEVELS[level])


def _drop_below_threshold(_: WrappedLogger, name: str, event: EventDict) -> EventDict:
    if _LEVELS[name] < logging.root.level:
        raise structlog.DropEvent
    return event


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd's journal reads what is written to it; JOURNAL_STREAM in systemd.exec(5)."""
    expected = os.environ.get("JOURNAL_STREAM")
    if not expected:
        return False
    found = os.fstat(stream.fileno())
    return expected == f"{found.st_dev}:{found.st_ino}"


def _with_priority(_: WrappedLogger, name: str, line: bytes) -> bytes:
    """A line as the journal has it, which reads its priority and takes it off."""
    return b"<%d>%b" % (_PRIORITIES[name], line)


def _console(colors: bool) -> list[Processor]:
    # Plain tracebacks: the rich ones print local variables, which may be secrets.
    plain = structlog.dev.plain_traceback
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain),
        _encoded,
    ]


def _encoded(_: WrappedLogger, __: str, text: EventDict | str) -> bytes:
    return str(text).encode(errors="backslashreplace")


_ENCODER = msgspec.json.Encoder(enc_hook=repr)


def _json_line(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    # The encoder writes a time as structlog's TimeStamper would, in a third of the time.
    line = {
        "time": datetime.now(UTC),
        "level": event.pop("level"),
        "event": event.pop("event"),
        **event,
    }
    try:
        return _ENCODER.encode(line)
    except Exception:
        # A value that JSON can't hold, such as half a surrogate pair from a file name.
        plain = {_plain(key): _plain(value) for key, value in line.items()}
        return _ENCODER.encode({**plain, "time": line["time"]})


_JSON = (structlog.processors.format_exc_info, _json_line)


def _plain(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()


class _Lines:
    """Writes whole lines, whichever thread they come from."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def msg(self, line: bytes) -> None:
        # The disk may be full, or the reader gone: there is no other place for it.
        with self._lock, suppress(OSError, ValueError):
            self._stream.write(line + b"\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


class _Forward(logging.Handler):
    """Hands the standard library's records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        # Levels between the known ones count as the one below.
        level = max(logging.DEBUG, min(record.levelno // 10 * 10, logging.CRITICAL))
        try:
            get_logger().log(
                level,
                "library.message",
                logger=record.name,
                message=record.getMessage(),
                exc_info=record.exc_info or None,
            )
        except Exception:
            self.handleError(record)


def _thread_died(died: threading.ExceptHookArgs) -> None:
    thread = died.thread.name if died.thread else ""
    get_logger().critical("thread.died", thread=thread, exc_info=died.exc_value)
