"""Programs run by the command in containers of their own: input, output, signals, the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.bundles.bundle import make_bundle
from tests.bed.clients.command import Command
from tests.bed.clients.events import Events
from tests.bed.clients.limits import in_force
from tests.bed.hosts.leaks import LIMIT_S, suspend, until
from tests.bed.services.service import Service

_SLEEPING = "trap 'echo {0}; exit 4' {0}; echo ready; while :; do sleep 0.1; done"


@pytest.fixture
def command(service: Service) -> Command:
    return Command(service)


@pytest.fixture
def run(service: Service) -> list[str]:
    """The words with which each run begins."""
    return ["run", "--rm", "--rootfs", str(service.rootfs)]


def is_ready(process: subprocess.Popen[bytes]) -> None:
    """Wait for the first line."""
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def test_the_exit_code_and_both_streams_are_those_of_the_program(
    command: Command, run: list[str]
) -> None:
    done = command(*run, "sh", "-c", "echo good; echo bad >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "good\n", "bad\n")


def test_the_options_of_the_program_are_its_own(command: Command, run: list[str]) -> None:
    assert command.lines(*run, "echo", "--rm", "-t", "--help") == ["--rm -t --help"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["/missing"], 127),
        (["/etc/passwd"], 126),
        (["--workdir", "/missing", "--user", "nobody-here", "true"], 125),
        (["--runtime", "missing", "true"], 125),
        (["--memory", "much", "true"], 125),
        (["--volume", "name:/data", "true"], 125),
        (["--security-opt", "label=disable", "true"], 125),
        (["--mount", "type=volume,source=data,target=/data", "true"], 125),
        (["--mount", "type=bind,source=/srv", "true"], 125),
        (["--tmpfs", "tmp", "true"], 125),
        (["--ulimit", "nofile", "true"], 125),
        (["--sysctl", "kernel.msgmax", "true"], 125),
        (["--pid", "container:web", "true"], 125),
        (["--group-add", "wheel", "true"], 125),
        (["--device-cgroup-rule", "c 10 rw", "true"], 125),
        ([], 125),
        (["--entrypoint", ""], 125),
        (["--bundle", "/srv", "true"], 125),
        (["--detach", "/missing"], 127),
    ],
)
def test_what_can_not_be_run(
    service: Service, command: Command, run: list[str], words: list[str], status: int
) -> None:
    assert command.refusal(*run, *words, status=status)
    assert service.ids() == []


def test_the_end_by_a_signal(service: Service, command: Command, run: list[str]) -> None:
    with command.start(*run, "--name", "web", "sh", "-c", "echo ready; sleep 1000") as process:
        is_ready(process)
        service.kill("web")
        assert process.wait(LIMIT_S) == 128 + signal.SIGKILL


def test_a_container_is_left_unless_it_is_to_be_removed(
    service: Service, command: Command, run: list[str]
) -> None:
    kept = [word for word in run if word != "--rm"]
    assert command(*kept, "--name", "kept", "false").returncode == 1
    assert command(*run, "--name", "gone", "false").returncode == 1
    assert [each.name for each in service.containers()] == ["kept"]
    assert service.state("kept") == "stopped"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--entrypoint", "echo", "a", "-n"], "a -n"),
        (["--entrypoint", '["sh", "-c", "echo $0 $1"]', "a", "b"], "a b"),
        (["--entrypoint", '["echo", "alone"]'], "alone"),
        (["--entrypoint", "", "echo", "a"], "a"),
    ],
)
def test_an_entrypoint_gets_the_command_as_its_arguments(
    command: Command, run: list[str], words: list[str], line: str
) -> None:
    assert command.lines(*run, *words) == [line]


def test_a_detached_run_prints_the_id_and_ends(service: Service, command: Command) -> None:
    (printed,) = command.lines("run", "-d", "--rootfs", str(service.rootfs), "sleep", "1000")
    assert printed in service.ids()
    assert service.state(printed) == "running"


def test_a_detached_run_is_removed_by_the_service(
    service: Service, command: Command, run: list[str]
) -> None:
    (printed,) = command.lines(*run, "-d", "sh", "-c", _SLEEPING.format("TERM"))
    until(lambda: service.output(printed) == ["ready"])
    assert service.status(printed).auto_remove
    events = Events(service, container_id=printed)
    service.kill(printed, "TERM")
    assert events.until("exited")[-1].exit_status.exit_code == 4
    events.until("removed")
    until(lambda: service.ids() == [])


def test_a_detached_run_that_is_not_started_is_removed(
    service: Service, command: Command, run: list[str]
) -> None:
    Path(service.rootfs, "tmp/script").write_text("#!/missing\n")
    Path(service.rootfs, "tmp/script").chmod(0o755)
    assert command.refusal(*run, "-d", "/tmp/script", status=127)
    assert service.ids() == []


def test_what_is_created_to_be_removed_is_removed_at_its_end(
    service: Service, command: Command
) -> None:
    words = ["create", "--rm", "--rootfs", str(service.rootfs), "true"]
    (printed,) = command.lines(*words)
    assert service.state(printed) == "created"
    command.lines("start", printed)
    until(lambda: service.ids() == [])


def test_input_ends_with_ours(command: Command, run: list[str]) -> None:
    script = "cat; echo over"
    assert command.feed(b"typed\n", *run, "-i", "sh", "-c", script) == b"typed\nover\n"
    assert command.feed(b"typed\n", *run, "sh", "-c", script) == b"over\n"


def test_a_megabyte_passes_as_it_is(command: Command, run: list[str]) -> None:
    data = os.urandom(1 << 20)
    assert command.feed(data, *run, "-i", "cat") == data


@pytest.fixture
def blocked(
    service: Service, command: Command, run: list[str], tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[bytes], bytes]]:
    """A command whose program waits for a reader of its output, and all of that output."""
    data = os.urandom(1 << 20) * 64
    Path(tmp_path, "data").write_bytes(data)
    words = ["--name", "web", "-v", f"{tmp_path}:/data"]
    script = "cat /data/data; touch /data/over; sleep 0.1"
    with command.start(*run, *words, "sh", "-c", script) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 1) == data[:1]
        monitor = service.monitor_pid("web")
        until(lambda: "sock" in Path(f"/proc/{monitor}/wchan").read_text())
        yield process, data


def test_a_program_waits_for_a_slow_reader_who_gets_every_byte(
    blocked: tuple[subprocess.Popen[bytes], bytes], tmp_path: Path
) -> None:
    process, data = blocked
    assert not Path(tmp_path, "over").exists()
    out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, err) == (0, b"")
    assert out == data[1:]


def test_a_program_goes_on_when_a_command_that_does_not_read_is_killed(
    service: Service, blocked: tuple[subprocess.Popen[bytes], bytes], tmp_path: Path
) -> None:
    process, _ = blocked
    suspend(process.pid)
    process.kill()
    until(Path(tmp_path, "over").exists)
    assert service.wait("web").exit_code == 0


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_are_passed_on(command: Command, run: list[str], name: str) -> None:
    with command.start(*run, "sh", "-c", _SLEEPING.format(name)) as process:
        is_ready(process)
        process.send_signal(signal.Signals[f"SIG{name}"])
        out, _ = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (4, f"{name}\n".encode())


def test_a_second_interrupt_kills_what_ignores_the_first(
    service: Service, command: Command, run: list[str]
) -> None:
    script = "trap 'echo heard' INT; echo ready; while :; do sleep 0.1; done"
    with command.start(*run, "sh", "-c", script) as process:
        is_ready(process)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == b"heard\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 128 + signal.SIGKILL
    assert service.ids() == []


def test_a_signal_that_is_not_passed_on_ends_the_command_alone(
    service: Service, command: Command
) -> None:
    words = ["run", "--no-sig-proxy", "--name", "web", "--rootfs", str(service.rootfs)]
    with command.start(*words, "sh", "-c", "echo ready; exec sleep 1000") as process:
        is_ready(process)
        process.terminate()
        assert process.wait(LIMIT_S) == 128 + signal.SIGTERM
    assert service.state("web") == "running"


def test_what_is_to_be_removed_ends_with_the_command(
    service: Service, command: Command, run: list[str]
) -> None:
    with command.start(*run, "--no-sig-proxy", "sh", "-c", _SLEEPING.format("INT")) as process:
        is_ready(process)
        process.terminate()
        assert process.wait(LIMIT_S) == 128 + signal.SIGTERM
    assert service.ids() == []


def test_a_command_that_is_killed_leaves_the_container_running(
    service: Service, command: Command, run: list[str]
) -> None:
    with command.start(*run, "--name", "web", "sh", "-c", _SLEEPING.format("INT")) as process:
        is_ready(process)
        process.kill()
    assert service.state("web") == "running"


def test_a_reader_that_goes_ends_the_command(
    service: Service, command: Command, run: list[str]
) -> None:
    with command.start(*run, "yes") as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(LIMIT_S) == 128 + signal.SIGPIPE
    assert service.ids() == []


def test_output_that_can_not_be_written_is_a_failure(command: Command, run: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command.argv(*run, "echo", "hello"),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=LIMIT_S,
            check=False,
        )
    assert done.returncode == 125
    assert b"No space left" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_empty(command: Command, run: list[str], closed: str) -> None:
    argv = command.argv(*run, "-i", "sh", "-c", "echo good; echo bad >&2; cat; exit 3")
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 3
    assert done.stdout == (b"" if ">&-" in closed.split() else b"good\n")
    assert done.stderr == (b"" if "2>&-" in closed.split() else b"bad\n")


def test_environment_place_and_account(
    service: Service, command: Command, run: list[str], tmp_path: Path
) -> None:
    variables = tmp_path / "variables"
    variables.write_text("# Comment\n\nA=file\nB=file with spaces\nOURS\n")
    words = ["--env-file", str(variables), "-e", "A=word", "-e", "THEIRS", "-e", "UNSET"]
    words += ["-w", "/tmp", "-u", "alice", "--hostname", "web"]
    script = "echo $A:$B:$OURS:$THEIRS:${UNSET-unset}; pwd; id -u; hostname"
    done = command(*run, *words, "sh", "-c", script, OURS="ours", THEIRS="theirs")
    assert done.stdout.splitlines() == [
        "word:file with spaces:ours:theirs:unset",
        "/tmp",
        "1001",
        "web",
    ]


def test_volumes(command: Command, run: list[str], tmp_path: Path) -> None:
    (tmp_path / "given").write_text("given\n")
    words = ["-v", f"{tmp_path}:/read:ro,nosuid", "-v", f"{tmp_path}:/write"]
    script = "cat /read/given; echo new >/write/new; touch /read/x 2>/dev/null || echo refused"
    assert command.lines(*run, *words, "sh", "-c", script) == ["given", "refused"]
    assert (tmp_path / "new").read_text() == "new\n"


def test_what_the_program_may_do(command: Command, run: list[str]) -> None:
    words = ["--read-only", "--cap-drop", "all", "--cap-add", "kill,net_raw"]
    words += ["--security-opt", "no-new-privileges:false", "--security-opt", "seccomp=unconfined"]
    script = (
        "touch /x 2>/dev/null || echo refused; grep -E 'CapBnd|NoNewP|Seccomp:' /proc/self/status"
    )
    assert [line.split()[-1] for line in command.lines(*run, *words, "sh", "-c", script)] == [
        "refused",
        f"{1 << 5 | 1 << 13:016x}",
        "0",
        "0",
    ]


def test_networks_and_devices(command: Command, run: list[str]) -> None:
    words = ["--device", "/dev/null:/dev/nothing:rw"]
    script = "readlink /proc/self/ns/net; test -c /dev/nothing && echo device"
    ours = os.readlink("/proc/self/ns/net")
    lines = command.lines(*run, *words, "--network", "host", "sh", "-c", script)
    assert lines == [ours, "device"]
    assert command.lines(*run, *words, "sh", "-c", script)[0] != ours


def test_limits_and_labels(service: Service, command: Command) -> None:
    words = ["run", "-d", "--name", "web", "--rootfs", str(service.rootfs)]
    words += ["--memory", "64m", "--pids-limit", "20", "--cpus", "0.5"]
    command.lines(*words, "-l", "app=web", "-l", "empty", "sleep", "1000")
    assert service.status("web").labels == {"app": "web", "empty": ""}
    limits = in_force(service, "web")
    assert limits.memory_limit_in_bytes == 64 << 20
    assert limits.pids_limit == 20
    assert (limits.cpu_quota, limits.cpu_period) == (50_000, 100_000)


def test_update_changes_limits(service: Service, command: Command) -> None:
    service.run(container_id="web")
    assert command.lines("update", "--memory", "128m", "--cpus", "1.5", "web") == ["web"]
    limits = in_force(service, "web")
    assert limits.memory_limit_in_bytes == 128 << 20
    assert limits.cpu_quota == 150_000
    assert command.lines("update", "--memory", "0", "--cpus", "0", "web") == ["web"]
    limits = in_force(service, "web")
    assert (limits.memory_limit_in_bytes, limits.cpu_quota) == (-1, -1)
    assert "limit" in command.refusal("update", "web", status=2)


def test_a_bundle_says_what_runs(service: Service, command: Command, tmp_path: Path) -> None:
    script = "test -t 1 && echo terminal; echo bundled; exit 5"
    bundle = make_bundle(tmp_path / "bundle", ["/bin/sh", "-c", script])
    done = command("run", "--rm", "--bundle", str(bundle))
    assert (done.returncode, done.stdout) == (5, "bundled\n")
    line = command.refusal("run", "--bundle", str(bundle), "--env", "A=b", status=125)
    assert "--env" in line
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"]["terminal"] = True
    (bundle / "config.json").write_text(json.dumps(spec))
    assert command("run", "--rm", "--bundle", str(bundle)).stdout == "terminal\nbundled\n"
    assert service.ids() == []


def test_create_start_and_attach(service: Service, command: Command) -> None:
    words = ["create", "-i", "--name", "web", "--rootfs", str(service.rootfs)]
    (container_id,) = command.lines(*words, "sh", "-c", "read a; echo $a; exit 6")
    assert service.state(container_id) == "created"
    assert command.lines("start", "web") == ["web"]
    with command.start("attach", "web") as process:
        out, err = process.communicate(b"typed\n", timeout=LIMIT_S)
    assert (process.returncode, out, err) == (6, b"typed\n", b"")


def test_attach_passes_signals_on_and_sends_no_input_unless_asked(
    service: Service, command: Command
) -> None:
    script = "trap 'exit 4' TERM; while :; do echo ready; sleep 0.1; done"
    container_id = service.run(script, stdin=True)
    with command.start("attach", "--no-stdin", container_id) as process:
        is_ready(process)
        process.terminate()
        assert process.wait(LIMIT_S) == 4


def test_attach_to_a_stopped_container_is_refused(service: Service, command: Command) -> None:
    container_id = service.run("exit 0")
    service.wait(container_id)
    assert "stopped" in command.refusal("attach", container_id, status=125)
