"""The log: one line for each event, in one form, whoever logs and whatever it says."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from unittest.mock import ANY

import pytest
import structlog

from ocigrpc.log import (
    LogFormat,
    LogLevel,
    bind_log,
    configure_logging,
    get_logger,
    set_log_level,
)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Puts back what configuring the log changes for the whole process."""
    handlers, level, hook = logging.root.handlers[:], logging.root.level, threading.excepthook
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.root.handlers = handlers
    logging.root.setLevel(level)
    threading.excepthook = hook


class Log:
    """Configures the log to write into memory, and reads it back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stderr = io.TextIOWrapper(io.BytesIO())
        self._monkeypatch = monkeypatch

    def configure(self, level: LogLevel = "info", log_format: LogFormat = "auto") -> None:
        """As the service does, but for the stream."""
        self._monkeypatch.setattr(sys, "stderr", self._stderr)
        configure_logging(level, log_format)

    def text(self) -> str:
        """All that was written."""
        buffer = self._stderr.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode()

    def events(self) -> list[dict[str, object]]:
        """The lines, each of which must be JSON."""
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """The log of the test."""
    return Log(monkeypatch)


def test_an_event_is_a_json_line_with_its_time_level_and_name_first(log: Log) -> None:
    log.configure()
    get_logger().info("container.started", pid=17)
    (event,) = log.events()
    assert list(event) == ["time", "level", "event", "pid"]
    assert event == {"time": ANY, "event": "container.started", "level": "info", "pid": 17}


def test_times_are_iso_and_utc(log: Log) -> None:
    log.configure()
    get_logger().info("container.started")
    stamp = datetime.fromisoformat(str(log.events()[0]["time"]))
    assert stamp.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - stamp) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_events_below_the_level_are_left_out(log: Log, level: LogLevel, seen: list[str]) -> None:
    log.configure(level)
    for name in ("debug", "info", "warning", "error"):
        getattr(get_logger(), name)("an.event")
    assert [event["level"] for event in log.events()] == seen


def test_the_level_can_be_changed_for_loggers_in_use(log: Log) -> None:
    log.configure()
    logger = get_logger()
    for level in ("info", "debug", "error"):
        set_log_level(level)
        logger.debug(f"at.{level}")
        logging.getLogger("grpc").debug(f"grpc at {level}")
    seen = [(event["event"], event.get("message")) for event in log.events()]
    assert seen == [("at.debug", None), ("library.message", "grpc at debug")]


def test_lines_for_the_journal_have_priorities(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryFile("w+") as journal:
        found = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        monkeypatch.setattr(sys, "stderr", journal)
        configure_logging("debug")
        for name in ("debug", "info", "warning", "error", "critical"):
            getattr(get_logger(), name)("an.event")
        journal.seek(0)
        lines = journal.read().splitlines()
    assert [line[:4] for line in lines] == ["<7>{", "<6>{", "<4>{", "<3>{", "<2>{"]


def test_lines_for_others_than_the_journal_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryFile("w+") as file:
        # As a child of a service has it whose output is no longer the journal's.
        monkeypatch.setenv("JOURNAL_STREAM", "1:2")
        monkeypatch.setattr(sys, "stderr", file)
        configure_logging()
        get_logger().info("an.event")
        file.seek(0)
        assert file.read().startswith("{")


def test_a_logger_made_before_the_log_is_configured_obeys_it(log: Log) -> None:
    early = get_logger()
    log.configure("error")
    early.info("container.started")
    early.error("container.lost")
    assert [event["event"] for event in log.events()] == ["container.lost"]


def test_what_is_bound_for_a_request_is_in_each_of_its_lines(log: Log) -> None:
    log.configure()

    def request() -> None:
        bind_log(request_id="r1")
        bind_log(container_id="c1", pid=1)
        get_logger().info("container.started", pid=17)
        logging.getLogger("grpc").warning("slow")

    copy_context().run(request)
    get_logger().info("service.ready")
    bound = [(event.get("request_id"), event.get("container_id")) for event in log.events()]
    assert bound == [("r1", "c1"), ("r1", "c1"), (None, None)]
    assert [event.get("pid") for event in log.events()] == [17, 1, None]


def test_an_exception_stays_in_its_line(log: Log) -> None:
    log.configure()
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError:
        get_logger().exception("container.failed")
    (event,) = log.events()
    assert "RuntimeError: two\nlines" in str(event["exception"])


@pytest.mark.parametrize("value", ["\udcff", 2**80, object(), {1: {"\udcff": b"\xff"}}])
def test_a_value_that_json_does_not_know_is_logged_all_the_same(log: Log, value: object) -> None:
    log.configure()
    get_logger().info("container.started", value=value)
    assert [event["event"] for event in log.events()] == ["container.started"]


def test_the_standard_librarys_records_come_out_in_the_same_form(log: Log) -> None:
    log.configure()
    logging.getLogger("grpc._server").error("failed: %s", "why")
    (event,) = log.events()
    assert event == {
        "time": ANY,
        "event": "library.message",
        "level": "error",
        "logger": "grpc._server",
        "message": "failed: why",
    }


def test_the_standard_librarys_records_are_filtered_too(log: Log) -> None:
    log.configure("warning")
    logging.getLogger("grpc").info("chatter")
    assert log.events() == []


@pytest.mark.parametrize(("number", "level"), [(25, "info"), (35, "warning"), (99, "critical")])
def test_a_level_of_a_librarys_own_counts_as_the_known_one_below(
    log: Log, number: int, level: str
) -> None:
    log.configure()
    logging.getLogger("other").log(number, "hello")
    assert [event["level"] for event in log.events()] == [level]


def test_warnings_come_out_in_the_same_form(log: Log) -> None:
    log.configure()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert [event["logger"] for event in log.events()] == ["py.warnings"]


def test_an_exception_that_ends_a_thread_is_an_event(log: Log) -> None:
    log.configure()
    thread = threading.Thread(target=lambda: 1 // 0, name="doomed")
    thread.start()
    thread.join()
    (event,) = log.events()
    assert (event["event"], event["thread"]) == ("thread.died", "doomed")
    assert "ZeroDivisionError" in str(event["exception"])


def test_lines_of_many_threads_are_whole(log: Log) -> None:
    log.configure()
    threads = [
        threading.Thread(target=lambda: [get_logger().info("e", x="y" * 999) for _ in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event["x"] for event in log.events()] == ["y" * 999] * 400


def test_a_full_disk_does_not_break_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        configure_logging("info")
        get_logger().info("container.started")
        # What is left in its buffer would make closing fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_the_console_form_is_not_json(log: Log) -> None:
    log.configure("info", "console")
    get_logger().info("container.started", path="/\udcff")
    with pytest.raises(json.JSONDecodeError):
        log.events()
    assert "container.started" in log.text()


def test_the_console_form_shows_no_variables_of_a_traceback(log: Log) -> None:
    log.configure("info", "console")

    def fail() -> None:
        password = "".join(["hunter", "2"])
        raise RuntimeError(len(password))

    try:
        fail()
    except RuntimeError:
        get_logger().exception("container.failed")
    assert "RuntimeError: 7" in log.text()
    assert "hunter2" not in log.text()


def test_auto_is_the_console_form_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, terminal = os.openpty()
    with open(leader, "rb", buffering=0) as reader, open(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        configure_logging()
        get_logger().info("container.started")
        line = reader.read(4096)
    assert b"container.started" in line
    assert not line.startswith(b"{")
