"""Monitors that go wrong: scripts in conmon's place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bed.checks.strangers import stranger
from tests.bed.clients.refusal import refused
from tests.bed.services.service import Service
from tests.real.conftest import StartService

# Not sh, whose redirections take descriptors of one digit only.
_SCRIPT = """#!/bin/bash
[ "$1" = --version ] && exec conmon --version
# Not when it is asked for its options: what it leaves behind then is in no cgroup of its own.
[ "${{!#}}" = --help ] && exec conmon "$@"
while [ $# -gt 0 ]; do [ "$1" = -P ] && pid_file=$2; shift; done
# Until it is let go: then it is in its cgroup, as all that it starts will be.
read -r -d '' -u "$_OCI_STARTPIPE"
{fault}
"""
_DAEMON = "{ %s; } > /dev/null 2>&1 & printf $! > $pid_file"

StartWith = Callable[[str], Service]


@pytest.fixture
def start_with(start_service: StartService, tmp_path: Path) -> StartWith:
    """``start_with(fault)``: a service whose monitor is a shell script."""

    def start(fault: str) -> Service:
        script = tmp_path / "conmon"
        script.write_text(_SCRIPT.format(fault=fault))
        script.chmod(0o755)
        runc = {"path": "runc", "create_timeout_s": 1.0}
        return start_service(conmon_path=script, runtimes={"runc": runc})

    return start


@pytest.mark.parametrize(
    ("fault", "phase"),
    [("exec sleep 1000", "monitor"), (_DAEMON % "exec sleep 1000", "sync")],
)
def test_a_monitor_that_hangs_times_out_and_leaves_nothing(
    start_with: StartWith, fault: str, phase: str
) -> None:
    service = start_with(fault)
    with refused("DEADLINE_EXCEEDED", "CREATE_TIMEOUT") as refusal:
        service.create()
    assert refusal.metadata["phase"] == phase
    assert service.ids() == []
    assert service.leaks() == []


def test_a_monitor_that_refuses_is_told_in_its_own_words(start_with: StartWith) -> None:
    service = start_with("echo the moon is full >&2; exit 3")
    with refused("INTERNAL", "MONITOR_FAILED") as refusal:
        service.create()
    assert refusal.metadata["output"] == "the moon is full"
    assert refusal.metadata["returncode"] == "3"
    assert refusal.metadata["phase"] == "monitor"
    assert service.leaks() == []


@pytest.mark.parametrize("output", ["nonsense", "{}", "[1]", "-1", "null"])
def test_a_monitor_that_talks_nonsense_is_an_error(start_with: StartWith, output: str) -> None:
    service = start_with(_DAEMON % f"echo '{output}' >&$_OCI_SYNCPIPE")
    with refused("INTERNAL", "SYNC_MALFORMED") as refusal:
        service.create()
    assert refusal.metadata["phase"] == "sync"
    assert refusal.metadata["output"] == output
    assert service.leaks() == []


def test_a_monitor_that_talks_without_end_is_an_error(start_with: StartWith) -> None:
    service = start_with(_DAEMON % "tr '\\0' x < /dev/zero >&$_OCI_SYNCPIPE")
    with refused("INTERNAL", "SYNC_MALFORMED"):
        service.create()
    assert service.leaks() == []


def test_a_monitor_that_ends_without_a_word_is_an_error(start_with: StartWith) -> None:
    service = start_with(_DAEMON % "true")
    with refused("INTERNAL", "RUNTIME_FAILED"):
        service.create()
    assert service.leaks() == []


def test_a_monitor_that_names_a_stranger_is_an_error_and_the_stranger_lives_on(
    start_with: StartWith,
) -> None:
    with stranger() as pid:
        say = f"""echo '{{"pid": {pid}}}' >&$_OCI_SYNCPIPE; exec sleep 1000"""
        service = start_with(_DAEMON % say)
        with refused("INTERNAL", "CONTAINER_ENDED"):
            service.create()
        assert service.leaks() == []


def test_a_monitor_that_names_a_process_that_is_not_is_an_error(start_with: StartWith) -> None:
    # Beyond the largest that pid_max can be.
    say = """echo '{"pid": 4194305}' >&$_OCI_SYNCPIPE; exec sleep 1000"""
    service = start_with(_DAEMON % say)
    with refused("INTERNAL", "CONTAINER_ENDED"):
        service.create()
    assert service.leaks() == []
