"""conmon's argv, and what it reports on its sync pipe."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.conmon.argv import ConmonOptions, create_argv
from ocigrpc.conmon.pipes import Pipes, parse_sync_line
from ocigrpc.errors import MonitorFailed
from ocigrpc.oci.paths import ContainerPaths
from ocigrpc.oci.runtime_errors import logged_error
from ocigrpc.waiting import Deadline

PLAIN = ConmonOptions(
    conmon_path="/usr/bin/conmon",
    container_id="c1",
    paths=ContainerPaths("/run/o", "c1"),
    runtime_path="/usr/sbin/runc",
    runtime_argv=("--root", "/r"),
    log_path="/logs/c1.log",
    log_level="warning",
)


def test_argv_of_a_plain_container() -> None:
    assert create_argv(PLAIN) == [
        "/usr/bin/conmon",
        *("-c", "c1"),
        *("-u", "c1"),
        *("-r", "/usr/sbin/runc"),
        *("-b", "/run/o/containers/c1"),
        *("-p", "/run/o/containers/c1/init.pid"),
        *("-P", "/run/o/containers/c1/conmon.pid"),
        *("-l", "/logs/c1.log"),
        *("--persist-dir", "/run/o/containers/c1"),
        *("--exit-dir", "/run/o/exits"),
        *("--socket-dir-path", "/run/o/sockets"),
        "--full-attach",
        *("--log-level", "warning"),
        "--runtime-arg=--root",
        "--runtime-arg=/r",
        "--runtime-arg=--log=/run/o/containers/c1/runtime.log",
        "--runtime-arg=--log-format=json",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"systemd_cgroup": True}, ["-s"]),
        ({"terminal": True}, ["-t"]),
        ({"stdin": True}, ["-i", "--leave-stdin-open"]),
        ({"stdin": True, "stdin_once": True}, ["-i"]),
        ({"no_pivot": True}, ["--no-pivot"]),
        ({"shows_bundle": True}, ["--runtime-opt=--bundle=/run/o/containers/c1/bundle"]),
        ({"log_size_max_bytes": 4096}, ["--log-size-max", "4096"]),
    ],
)
def test_each_option_adds_its_words_and_no_others(
    change: dict[str, object], words: list[str]
) -> None:
    argv = create_argv(msgspec.structs.replace(PLAIN, **change))
    start = argv.index(words[0])
    assert argv[start : start + len(words)] == words
    assert argv[:start] + argv[start + len(words) :] == create_argv(PLAIN)


@given(st.integers(min_value=-1, max_value=2**31 - 1), st.text())
def test_both_forms_of_the_sync_line_say_the_same(number: int, message: str) -> None:
    for key in ("pid", "data"):
        line = msgspec.json.encode({key: number, "message": message}) + b"\n"
        answer = parse_sync_line(line)
        assert (answer.pid, answer.message) == (number, message)


@pytest.mark.parametrize("line", [b"{}\n", b"no json\n", b'{"pid": "7"}\n', b"[]\n", b"\xff\n"])
def test_a_malformed_sync_line_is_an_error_of_the_monitor(line: bytes) -> None:
    with pytest.raises(MonitorFailed) as caught:
        parse_sync_line(line)
    assert caught.value.reason == "SYNC_MALFORMED"


def test_the_sync_line_is_read_to_its_end_in_pieces() -> None:
    with Pipes() as pipes:
        os.write(pipes.fds[0], b'{"pid":')
        os.write(pipes.fds[0], b" 7}\n")
        assert pipes.read_sync_line(Deadline(5)) == b'{"pid": 7}\n'


def test_a_conmon_that_ends_before_its_report_is_not_waited_for() -> None:
    with Pipes() as pipes:
        os.write(pipes.fds[0], b"torn")
        pipes.release()
        pipes.start()
        assert pipes.read_sync_line(Deadline(5)) == b"torn"


def test_runtime_log_gives_the_last_error(tmp_path: Path) -> None:
    log = tmp_path / "runtime.log"
    log.write_text(
        '{"level":"error","msg":"first"}\n'
        '{"level":"error","msg":"second"}\n'
        '{"level":"info","msg":"chatter"}\n'
        "torn li"
    )
    assert logged_error(log) == "second"


def test_runtime_log_that_is_missing_has_no_words(tmp_path: Path) -> None:
    assert logged_error(tmp_path / "none") == ""
