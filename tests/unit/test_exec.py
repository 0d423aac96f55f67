"""How programs are put to an OCI runtime."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ocigrpc.errors import InvalidArgument
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.oci.bundle import Spec
from ocigrpc.oci.exec import (
    ExecFiles,
    ExecProcess,
    exec_argv,
    exec_failure,
    process_of,
    umask_of,
)
from ocigrpc.oci.runtime import Runtime
from ocigrpc.oci.spec.root_files import PlannedRoot
from ocigrpc.waiting import Deadline

NOWHERE = PlannedRoot("/nowhere", ())
RUNTIME = Runtime("runc", "/nowhere/runc", ("--root", "/r"))
OWN: Spec = {
    "args": ["init"],
    "cwd": "/srv",
    "env": ["PATH=/bin", "A=1"],
    "user": {"uid": 5, "gid": 6},
    "terminal": True,
    "consoleSize": {"height": 1, "width": 2},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
    "noNewPrivileges": True,
    "capabilities": {"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
}


@pytest.fixture
def files(tmp_path: Path) -> ExecFiles:
    return ExecFiles(tmp_path)


def test_the_command_line_names_the_subgroup_and_the_files() -> None:
    argv = exec_argv(RUNTIME, "c", ExecFiles(Path("/d")), "exec-1", Deadline())
    assert argv == [
        *("/nowhere/runc", "--root", "/r", "--log", "/d/log", "--log-format", "json"),
        *("exec", "--cgroup", "/exec-1", "--process", "/d/process.json"),
        *("--pid-file", "/d/pid", "c"),
    ]


def test_a_detached_program_has_its_terminal_brought_to_a_socket() -> None:
    files = ExecFiles(Path("/d"))
    argv = exec_argv(RUNTIME, "c", files, "exec-1", Deadline(), detach=True, console="/d/console")
    assert argv[-4:] == ["--detach", "--console-socket", "/d/console", "c"]
    argv = exec_argv(RUNTIME, "c", files, "exec-1", Deadline(), detach=True)
    assert argv[-2:] == ["--detach", "c"]


def test_a_program_inherits_all_but_arguments_and_terminal() -> None:
    process = process_of(OWN, ExecProcess(("ls", "-l")), NOWHERE, terminal=False)
    own = dict(OWN)
    del own["consoleSize"]
    assert process == {**own, "args": ("ls", "-l"), "terminal": False}


def test_variables_replace_those_of_the_same_name() -> None:
    asked = ExecProcess(("x",), env={"A": "2", "B": "3=4"})
    process = process_of(OWN, asked, NOWHERE, terminal=False)
    assert process["env"] == ["PATH=/bin", "A=2", "B=3=4"]


def test_a_terminal_has_a_size_and_a_type() -> None:
    process = process_of(OWN, ExecProcess(("x",)), NOWHERE, terminal=True, rows=3, columns=4)
    assert process["consoleSize"] == {"height": 3, "width": 4}
    assert process["env"] == ["PATH=/bin", "A=1", "TERM=xterm"]


def test_another_user_can_use_no_capabilities() -> None:
    process = process_of(OWN, ExecProcess(("x",), user="7:8"), NOWHERE, terminal=False)
    assert process["user"] == {"uid": 7, "gid": 8, "additionalGids": [8], "umask": 0o022}
    usable = ("effective", "permitted", "inheritable", "ambient")
    sets = {"bounding": ["CAP_KILL"], **{name: [] for name in usable}}
    assert process["capabilities"] == sets


def test_another_user_has_the_containers_umask() -> None:
    own: Spec = {"args": ["init"], "cwd": "/", "user": {"umask": 0o027}}
    process = process_of(own, ExecProcess(("x",), user="7:8"), NOWHERE, terminal=False)
    assert umask_of(process) == 0o027
    assert umask_of({"user": {"umask": 0xFFFF_FFFF}}) == 0o777
    assert umask_of({}) == 0o022


def test_the_same_user_by_another_name_keeps_its_capabilities() -> None:
    process = process_of(OWN, ExecProcess(("x",), user="5:8"), NOWHERE, terminal=False)
    assert process["capabilities"] == OWN["capabilities"]


def test_a_spec_without_capabilities_is_given_none() -> None:
    own: Spec = {"args": ["init"], "cwd": "/"}
    process = process_of(own, ExecProcess(("x",), user="7:8"), NOWHERE, terminal=False)
    assert "capabilities" not in process


def test_an_unknown_user_is_named_by_its_field_here() -> None:
    with pytest.raises(InvalidArgument) as caught:
        process_of(OWN, ExecProcess(("x",), user="alice"), NOWHERE, terminal=False)
    assert caught.value.reason == "USER_NOT_FOUND"
    assert [each.field for each in caught.value.violations] == ["process.user"]


@pytest.mark.parametrize("user", ["100", "3:30", "3:3", "0:20"])
def test_a_user_that_the_container_has_no_number_for_is_named_by_its_field(user: str) -> None:
    owners = Owners(((0, 1000, 10), (20, 2000, 80)), ((0, 1000, 2), (5, 3000, 2)))
    wanted = ExecProcess(("x",), user=user, field="start.process")
    with pytest.raises(InvalidArgument) as caught:
        process_of(OWN, wanted, NOWHERE, owners, terminal=False)
    assert caught.value.reason == "ID_NOT_MAPPED"
    assert [each.field for each in caught.value.violations] == ["start.process.user"]


def test_a_user_of_any_range_is_taken() -> None:
    owners = Owners(((0, 1000, 10), (20, 2000, 80)), ((0, 1000, 2), (5, 3000, 2)))
    process = process_of(OWN, ExecProcess(("x",), user="99:6"), NOWHERE, owners, terminal=False)
    assert process["user"] == {"uid": 99, "gid": 6, "additionalGids": [6], "umask": 0o022}


def test_more_than_a_program_can_be_given_is_refused() -> None:
    large = {f"V{number}": "x" * 100_000 for number in range(11)}
    with pytest.raises(InvalidArgument) as caught:
        process_of(
            OWN, ExecProcess(("x",), env=large, field="start.process"), NOWHERE, terminal=False
        )
    assert caught.value.reason == "TOO_LONG"
    assert [each.field for each in caught.value.violations] == ["start.process.command"]


def test_a_program_that_was_named_has_run(files: ExecFiles) -> None:
    files.pid.write_text("12")
    assert exec_failure(files, "c", "its own words") is None


def test_a_program_without_a_pid_failed_with_the_runtimes_output(files: ExecFiles) -> None:
    failure = exec_failure(files, "c", "words on stderr")
    assert failure is not None
    assert (failure.reason, failure.metadata["output"]) == ("EXEC_FAILED", "words on stderr")


def test_an_error_in_the_runtimes_log_is_a_failure_even_after_the_name(files: ExecFiles) -> None:
    files.pid.write_text("12")
    files.log.write_text('{"level":"warning","msg":"a"}\n{"level":"error","msg":"no exec"}\n')
    failure = exec_failure(files, "c", "")
    assert failure is not None
    assert failure.metadata["output"] == "no exec"


@pytest.mark.parametrize(
    "words",
    [
        "exec failed: cannot exec in a paused container (use --ignore-paused to override)",
        "the container `c` is paused",
    ],
)
def test_a_pause_that_came_between_is_no_failure_of_the_runtime(
    files: ExecFiles, words: str
) -> None:
    files.log.write_bytes(msgspec.json.encode({"level": "error", "msg": words}))
    failure = exec_failure(files, "c", "")
    assert failure is not None
    assert (failure.reason, failure.metadata["state"]) == ("WRONG_STATE", "paused")
