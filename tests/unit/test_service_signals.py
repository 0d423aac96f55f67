"""What the signals that a service gets do to it, and to each other."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

from structlog.testing import capture_logs

from ocigrpc.cli.daemon.signals import Signals, handled_signals

_LIMIT_S = 10.0


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def expect_end(signals: Signals, released: threading.Event | None = None) -> None:
    """Ask for the end, and get it soon."""
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(signals.wait_for_end)
        try:
            send(signal.SIGTERM)
            assert ended.result(_LIMIT_S) == "SIGTERM"
        finally:
            if released:
                released.set()


def test_an_action_that_hangs_does_not_delay_the_end() -> None:
    began, released = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        released.wait()

    with handled_signals() as signals:
        signals.on(signal.SIGHUP, hang)
        send(signal.SIGHUP)
        assert began.wait(_LIMIT_S)
        expect_end(signals, released)


def test_what_an_action_raises_is_logged_and_the_next_signal_is_heard() -> None:
    hung_up = threading.Event()

    def fail() -> None:
        raise RuntimeError("a defect")

    with capture_logs() as lines, handled_signals() as signals:
        signals.on(signal.SIGUSR1, fail)
        signals.on(signal.SIGHUP, hung_up.set)
        send(signal.SIGUSR1)
        send(signal.SIGHUP)
        assert hung_up.wait(_LIMIT_S)
        expect_end(signals)
    (line,) = lines
    assert (line["event"], line["signal"]) == ("signal.failed", "SIGUSR1")


def test_a_signal_that_is_kept_gets_the_action_that_comes_later() -> None:
    hung_up, seen = threading.Event(), threading.Event()
    with capture_logs() as lines, handled_signals() as signals:
        signals.keep(signal.SIGHUP)
        signals.on(signal.SIGUSR1, seen.set)
        send(signal.SIGHUP)
        send(signal.SIGUSR1)
        assert seen.wait(_LIMIT_S)
        signals.on(signal.SIGHUP, hung_up.set)
        assert hung_up.wait(_LIMIT_S)
        # Without one that came earlier, an action waits for the next.
        seen.clear()
        hung_up.clear()
        signals.on(signal.SIGHUP, hung_up.set)
        send(signal.SIGUSR1)
        assert seen.wait(_LIMIT_S)
        assert not hung_up.is_set()
    assert lines == []
