"""The command line, run as people run it: exit status, and one line that says what is wrong."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

import ocigrpc
from ocigrpc.cli.daemon.notify import notify
from ocigrpc.cli.daemon.prepare import make_private_directory, prepare
from ocigrpc.errors import HostFailed
from ocigrpc.host.processes.programs import require_program
from ocigrpc.settings.table import settings_table
from ocigrpc.settings.values import (
    ConmonSettings,
    LogsSettings,
    RuntimeHandler,
    Settings,
    TimeoutSettings,
)
from ocigrpc.waiting import Deadline

_ROOT = Path(ocigrpc.__file__).parents[1]
_LIMIT_S = 30.0


def run(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command with this environment, and no settings of the machine's own."""
    return subprocess.run(
        [sys.executable, "-m", "ocigrpc", *argv],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        env={"PYTHONPATH": str(_ROOT), "OCIGRPC_CONFIG": os.devnull, **environ},
        check=False,
    )


def test_version_is_printed() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"ocigrpc {ocigrpc.__version__}\n")


def test_settings_prints_the_settings_in_force_as_json() -> None:
    done = run("settings", "--log-level", "debug", OCIGRPC_TIMEOUTS_STOP_S="3")
    assert done.returncode == 0
    expected = Settings(log_level="debug", timeouts=TimeoutSettings(stop_s=3.0))
    assert json.loads(done.stdout) == expected.effective()


def test_the_address_for_clients_is_no_setting() -> None:
    done = run("settings", OCIGRPC_ADDRESS="/nowhere")
    assert (done.returncode, done.stderr) == (0, "")


def test_help_has_a_whole_sentence_for_each_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    _, _, commands = done.stdout.partition("Commands:\n")
    assert "..." not in commands
    sentences = re.sub(r"\n {4,}", " ", commands).splitlines()
    assert len(sentences) > 20
    assert all(sentence.endswith(".") for sentence in sentences)


def test_protos_writes_out_the_contract_as_it_imports_itself(tmp_path: Path) -> None:
    done = run("protos", str(tmp_path / "new"))
    assert done.returncode == 0
    ours = sorted((_ROOT / "protos/ocigrpc/v1").iterdir())
    written = [tmp_path / "new/ocigrpc/v1" / each.name for each in ours]
    assert done.stdout.splitlines() == [str(each) for each in written]
    assert [each.read_text() for each in written] == [each.read_text() for each in ours]


def test_protos_that_cannot_be_written_are_one_line_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("protos", str(tmp_path / "file"))
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["serve", "settings"])
def test_every_setting_has_a_flag_in_the_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    for setting in settings_table():
        assert f"{setting.flag} " in done.stdout


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "command"),
        (["dance"], "dance"),
        (["serve", "--no-such-flag"], "--no-such-flag"),
        (["serve", "--log-lev", "info"], "--log-lev"),
        (["serve", "--log-level"], "--log-level"),
        (["serve", "--cgroup-manager", "none"], "--cgroup-manager"),
        (["settings", "--config", "/nonexistent.toml"], "/nonexistent.toml"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(argv: list[str], named: str) -> None:
    done = run(*argv)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert named in line


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("run --rootfs / --cpu-shares 12345678901234567890123 true", 125),
        ("run --rootfs / --memory 99999999999t true", 125),
        ("update --cpus 1e30 web", 2),
        ("update --cpus nan web", 2),
        ("update --pids 12345678901234567890 web", 2),
        ("stop --time nan web", 2),
        ("stop --time 1e300 web", 2),
        ("stats --interval nan", 2),
        ("top --interval inf web", 2),
        ("kill --signal= web", 2),
        ("logs --tail -2 web", 2),
        ("--address tcp://localhost:1 ps", 2),
        ("--address localhost:99999 ps", 2),
        ("--address ./socket run --rootfs / true", 125),
        ("unpause web", 2),
        ("--tls-cert /dev/null ps", 2),
        ("--tls-cert /dev/null run --rootfs / true", 125),
        ("--tls-cert /nonexistent exec web true", 125),
    ],
)
def test_a_value_that_nothing_has_is_one_line_of_wrong_usage(words: str, status: int) -> None:
    done = run("--address", "/nonexistent", *words.split())
    assert (done.returncode, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    assert "--help" in line


def test_whether_an_image_exists_is_not_answered_when_the_service_can_not_be_asked(
    tmp_path: Path,
) -> None:
    for words in (["exists", "web"], ["exists"]):
        done = run("--address", str(tmp_path / "none"), "image", *words)
        assert (done.returncode, done.stdout) == (125, "")
        assert len(done.stderr.splitlines()) == 1


def test_what_others_call_it_is_answered_with_what_it_is_called() -> None:
    assert "'resume'" in run("unpause", "web").stderr


_INTERRUPTED = """
import os, signal, sys
class Finder:
    def find_spec(name, path, target=None):
        if name == "ocigrpc.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
from ocigrpc.__main__ import main
main()
"""


def test_an_interrupt_while_it_is_loaded_ends_it_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED],
        env={"PYTHONPATH": str(_ROOT)},
        capture_output=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_nobody_at_a_port_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = run("--address", f"127.0.0.1:{port}", "ps", http_proxy="http://localhost:1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"nothing listens at 127.0.0.1:{port}; start it" in line


def test_completion_gives_a_service_that_hangs_up_quickly(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/socket")
        listener.listen()
        done = run(
            _OCIGRPC_COMPLETE="bash_complete",
            COMP_WORDS="ocigrpc pause ",
            COMP_CWORD="2",
            OCIGRPC_ADDRESS=f"{tmp_path}/socket",
        )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_a_directory_that_is_gone_is_one_line(tmp_path: Path) -> None:
    script = f'cd {tmp_path}; rmdir {tmp_path}; exec "$@"'
    argv = [sys.executable, "-m", "ocigrpc", "protos", "."]
    done = subprocess.run(
        ["sh", "-c", script, "sh", *argv],
        env={"PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "No such file or directory" in line
    assert "standard output" not in line


def test_a_wrong_variable_is_one_line_and_status_2() -> None:
    done = run("serve", OCIGRPC_NO_SUCH_SETTING="1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "OCIGRPC_NO_SUCH_SETTING" in line


def test_settings_need_no_grpc() -> None:
    code = (
        "import sys\n"
        "from ocigrpc.cli.main import main\n"
        "assert main(['settings']) == 0\n"
        "assert 'grpc' not in sys.modules\n"
    )
    environ = {"PYTHONPATH": str(_ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environ, timeout=_LIMIT_S, check=True)


def test_neither_serve_nor_the_log_loads_rich(tmp_path: Path) -> None:
    assert find_spec("rich"), "structlog loads it where it is installed, which the test needs"
    code = (
        "import sys\n"
        "import ocigrpc.log\n"
        "assert 'rich' not in sys.modules\n"
        "from ocigrpc.cli.main import main\n"
        "assert main(sys.argv[1:]) == 1\n"
        "assert 'ocigrpc.engine.engine' in sys.modules\n"
        "assert 'rich' not in sys.modules\n"
        # For other commands it is there.
        "import rich.console\n"
    )
    argv = [*serve_argv(tmp_path), "--conmon-path=/nonexistent"]
    environ = {"PYTHONPATH": str(_ROOT)}
    subprocess.run([sys.executable, "-c", code, *argv], env=environ, timeout=_LIMIT_S, check=True)


def serve_argv(tmp_path: Path) -> list[str]:
    """Flags of a service that keeps all it has below ``tmp_path``."""
    return [
        "serve",
        f"--socket-path={tmp_path}/s",
        f"--root-dir={tmp_path}/root",
        f"--run-dir={tmp_path}/run",
        f"--logs-dir={tmp_path}/log",
    ]


@pytest.mark.parametrize(
    ("conmon", "runc", "package"),
    [("/nonexistent/conmon", "/bin/true", "conmon"), ("/bin/true", "/nonexistent/runc", "runc")],
)
def test_serve_without_a_program_is_one_line_and_status_1(
    tmp_path: Path, conmon: str, runc: str, package: str
) -> None:
    runtimes = json.dumps({"runc": {"path": runc}})
    done = run(*serve_argv(tmp_path), f"--conmon-path={conmon}", f"--runtimes={runtimes}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    event = json.loads(line)
    assert (event["event"], event["reason"]) == ("service.failed", "PROGRAM_NOT_FOUND")
    assert event["install"] == f"apt-get install {package}"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_program_that_no_package_is_known_for_has_no_hint() -> None:
    with pytest.raises(HostFailed) as caught:
        require_program("/nonexistent/kata")
    assert caught.value.metadata == {"path": "/nonexistent/kata", "install": ""}


def test_a_runtime_that_is_not_the_default_may_be_missing(tmp_path: Path) -> None:
    prepare(
        Settings(
            root_dir=f"{tmp_path}/root",
            run_dir=f"{tmp_path}/run",
            logs=LogsSettings(dir=f"{tmp_path}/log"),
            conmon=ConmonSettings(path="/bin/true"),
            runtimes={
                "runc": RuntimeHandler(path="/bin/true"),
                "crun": RuntimeHandler(path="/nonexistent/crun"),
            },
        )
    )
    for name in ("root", "run", "log"):
        assert (tmp_path / name).stat().st_mode & 0o7777 == 0o700


def test_a_directory_is_made_with_those_above_it(tmp_path: Path) -> None:
    make_private_directory(f"{tmp_path}/a/b")
    assert (tmp_path / "a/b").stat().st_mode & 0o7777 == 0o700


def test_a_directory_that_others_can_read_is_kept_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private_directory(str(tmp_path))
    assert tmp_path.stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert_refused(tmp_path)


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/tmp")
    assert_refused(tmp_path / "link")


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/nonexistent")
    assert_refused(tmp_path / "link")


def test_a_file_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(tmp_path / "file")
    assert_refused(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    assert_refused(tmp_path)


def assert_refused(path: Path) -> None:
    """Assert that the directory can't be used, and that the error names it."""
    with pytest.raises(HostFailed) as caught:
        make_private_directory(str(path))
    assert (caught.value.reason, caught.value.metadata["path"]) == ("DIRECTORY_UNUSABLE", str(path))


@pytest.mark.parametrize("abstract", [False, True])
def test_the_init_system_is_told_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name if abstract else name)
        listener.settimeout(_LIMIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        notify("READY=1")
        assert listener.recv(64) == b"READY=1"


def test_an_init_system_that_does_not_listen_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/nobody")
    notify("READY=1")


def piped(words: str, output: str) -> subprocess.CompletedProcess[str]:
    """The command, run by a shell that sends its output somewhere; its status and its errors."""
    command = f"{shlex.quote(sys.executable)} -m ocigrpc {words}"
    return subprocess.run(
        ["bash", "-c", f"{command} {output}; exit ${{PIPESTATUS[0]}}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"]},
        timeout=_LIMIT_S,
        check=False,
    )


@pytest.mark.parametrize("words", ["settings", "--help", "serve --help", "--version"])
def test_a_reader_that_goes_early_gets_no_traceback(words: str) -> None:
    # A reader that is gone before anything is written.
    ended = piped(words, "| sh -c 'exec <&-'")
    assert ended.stderr == ""
    assert ended.returncode in (0, 128 + signal.SIGPIPE)


def test_output_that_nobody_reads_ends_as_by_sigpipe() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ocigrpc", "settings"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"]},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_output_that_can_not_be_written_is_said_to_be_lost() -> None:
    ended = piped("settings", "> /dev/full")
    assert ended.stderr == "ocigrpc: can't write to standard output: No space left on device\n"
    assert ended.returncode == 1


def test_a_closed_output_is_no_error() -> None:
    assert piped("settings", ">&-").stderr == ""


_TERMINATION = """
import os, select, signal, subprocess, sys
from ocigrpc.cli.daemon.signals import handled_signals
with handled_signals() as signals:
    signals.on(signal.SIGHUP, lambda: print("hung up", flush=True))
    subprocess.run(["grep", "^SigBlk:", "/proc/self/status"], check=True)
    print(signals.wait_for_end(), flush=True)
    if len(sys.argv) > 1:
        select.poll().poll()
"""


@contextmanager
def terminating(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """A process that waits to be ended, and first prints which signals its children block."""
    with subprocess.Popen(
        [sys.executable, "-c", _TERMINATION, *argv],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(_ROOT), "PATH": os.environ["PATH"]},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_the_first_signal_is_waited_for_and_children_block_none(number: signal.Signals) -> None:
    with terminating() as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["SigBlk:", "0" * 16]
        process.send_signal(number)
        output, _ = process.communicate(timeout=_LIMIT_S)
    assert (output, process.returncode) == (f"{number.name}\n", 0)


def test_no_signal_that_can_be_caught_ends_the_process_by_itself() -> None:
    stopping = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
    faults |= {signal.SIGTRAP, signal.SIGSYS}
    asking = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
    harmless = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
    harmless |= {signal.SIGPIPE, signal.SIGXFSZ}
    others = signal.valid_signals() - {signal.SIGKILL} - stopping - faults - asking - harmless
    assert {signal.SIGUSR2, signal.SIGALRM, signal.SIGRTMAX} <= others
    with terminating() as process:
        assert process.stdout is not None
        process.stdout.readline()
        for number in harmless:
            process.send_signal(number)
        for number in others:
            process.send_signal(number)
            assert "signal.ignored" in process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "hung up\n"
        process.send_signal(signal.SIGQUIT)
        output, _ = process.communicate(timeout=_LIMIT_S)
    assert (output, process.returncode) == ("SIGQUIT\n", 0)


def test_a_terminal_that_is_closed_ends_the_process() -> None:
    pid, terminal = os.forkpty()
    if not pid:
        os.chdir(_ROOT)
        os.execv(sys.executable, [sys.executable, "-c", _TERMINATION])
    with open(terminal, "rb", buffering=0) as screen:
        assert screen.readline().startswith(b"SigBlk:")
    ended = os.pidfd_open(pid)
    try:
        Deadline(_LIMIT_S).wait(ended)
    finally:
        os.close(ended)
        # Nothing, unless it has not ended.
        os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_a_hangup_or_a_quit_beside_the_first_signal_is_not_the_second() -> None:
    with terminating("and then hang") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "SIGTERM\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGQUIT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)


def test_the_second_signal_ends_the_process_at_once() -> None:
    with terminating("and then hang") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "SIGTERM\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(_LIMIT_S) == 1
