"""The command ``doctor``, on healthy hosts and on broken ones."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.bed import REPOSITORY
from tests.bed.clients.terminal import seen
from tests.bed.faults.runtimes import Switches
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.backups import backed_up, restore, store_of
from tests.bed.services.service import Service
from tests.real.conftest import StartService, each_kind


class Found(NamedTuple):
    """One finding, as JSON has it."""

    check: str
    level: str
    message: str
    remedy: str


def _flags(service: Service) -> list[str]:
    return service.argv()[service.argv().index("serve") + 1 :]


def _argv(service: Service, *words: str) -> list[str]:
    argv = [sys.executable, "-m", "ocigrpc", "doctor", *_flags(service), *words]
    return service.host.command(argv)


def doctor(
    service: Service, *words: str, prepare: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it with the settings of a service, on its host; ``prepare`` runs in the process first."""
    return subprocess.run(
        _argv(service, *words),
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "OCIGRPC_CONFIG": os.devnull},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        preexec_fn=prepare,
    )


def findings(
    service: Service, *words: str, status: int = 0, prepare: Callable[[], None] | None = None
) -> list[Found]:
    done = doctor(service, "--json", *words, prepare=prepare)
    assert (done.returncode, done.stderr) == (status, ""), done
    return [Found(**each) for each in json.loads(done.stdout)]


def failures(found: list[Found]) -> list[Found]:
    return [each for each in found if each.level == "failed"]


def of(found: list[Found], check: str) -> list[Found]:
    return [each for each in found if each.check == check]


@pytest.fixture
def killed(service: Service) -> Iterator[Service]:
    """The service, which was killed, and is started again for the others."""
    service.die()
    yield service
    service.start()


@each_kind
def test_a_service_that_works_has_a_container_live_its_whole_life(any_service: Service) -> None:
    found = findings(any_service)
    assert failures(found) == []
    lived = of(found, "service")[-1]
    assert (lived.level, lived.remedy) == ("ok", "")
    assert "create to remove" in lived.message
    assert any_service.ids() == []


@each_kind
def test_each_program_is_named_with_its_version(any_service: Service) -> None:
    lines = [each.message for each in of(findings(any_service), "programs")]
    for name in ("conmon", "runc", "crun"):
        assert any(line.startswith(f"{name} version ") for line in lines), lines


def test_a_line_for_people_has_the_level_the_check_and_the_remedy(killed: Service) -> None:
    done = doctor(killed)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = (each for each in done.stdout.splitlines() if "nothing listens" in each)
    assert line.split()[:2] == ["warning", "addresses"]
    assert line.endswith("systemctl start ocigrpc")
    assert "\x1b" not in done.stdout


def test_levels_are_colored_on_a_terminal_alone(killed: Service) -> None:
    argv = _argv(killed)
    assert "\x1b[33mwarning" in seen(argv)
    assert "\x1b[33m" not in seen(argv, NO_COLOR="1")


def test_without_a_service_the_host_is_checked_alone(killed: Service) -> None:
    parents = killed.parents()
    found = findings(killed)
    assert [each.level for each in of(found, "service")] == ["warning"]
    assert "cgroups can be made there" in of(found, "cgroups")[-1].message
    assert killed.parents() == parents


@pytest.mark.parametrize(("default", "status"), [("runc", 0), ("none", 1)])
def test_a_missing_runtime_fails_if_it_is_the_default(
    service: Service, default: str, status: int
) -> None:
    words = ["--runtimes", '{"none": {"path": "/none"}}', "--default-runtime", default]
    found = findings(service, *words, status=status)
    (missing,) = (each for each in found if "/none" in each.message)
    assert (missing.check, missing.level) == ("programs", "failed" if status else "warning")
    assert missing.remedy


def test_a_missing_program_can_be_installed(service: Service) -> None:
    (missing,) = failures(findings(service, "--conmon-path", "/none/conmon", status=1))
    assert (missing.check, missing.remedy.split(",")[0]) == ("programs", "apt-get install conmon")


def test_without_what_pulls_need_containers_of_a_root_filesystem_still_run(
    service: Service,
) -> None:
    assert {each.level for each in of(findings(service), "images")} == {"ok"}
    words = ("--images-skopeo", "/none/skopeo", "--images-policy", "/none/policy.json")
    program, policy, _ = of(findings(service, *words), "images")
    assert (program.level, policy.level) == ("warning", "warning")
    assert program.remedy.split(",")[0] == "apt-get install skopeo"
    assert "/none/policy.json" in policy.message


def test_a_directory_that_others_can_write_fails(service: Service, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o700)
    (tmp_path / "open").chmod(0o777)
    (bad,) = failures(findings(service, "--root-dir", str(tmp_path / "open"), status=1))
    assert bad.check == "directories"
    assert str(tmp_path / "open") in bad.remedy


def test_open_files_that_carry_too_few_containers_fail(service: Service) -> None:
    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    words = ("--limits-containers", "1000")
    (bad,) = failures(findings(service, *words, status=1, prepare=prepare))
    assert (bad.check, "LimitNOFILE=8000" in bad.remedy) == ("limits", True)
    (few,) = of(findings(service, prepare=prepare), "limits")
    assert few.level == "warning"


def test_what_a_killed_service_has_left_is_reported_and_not_touched(service: Service) -> None:
    living, ended = service.run(), service.run()
    service.die()
    monitor = Path(service.directory / "run/containers" / ended / "conmon.pid")
    os.kill(int(monitor.read_text()), signal.SIGKILL)
    left = of(findings(service), "leftovers")
    assert {each.level for each in left} == {"warning"}
    assert [living[:12] in each.message for each in left] == [True, False]
    assert [ended[:12] in each.message for each in left] == [False, True]
    service.start()
    assert service.state(living) == "running"
    assert [each.level for each in of(findings(service), "leftovers")] == ["ok"]


def store_line(service: Service, status: int = 0) -> Found:
    (line,) = of(findings(service, status=status), "store")
    return line


def test_a_restored_store_is_reported_and_not_touched(service: Service) -> None:
    container_id = service.run()
    assert store_line(service).level == "ok"
    service.die()
    # What the service wrote last is not in the main file yet.
    assert store_line(service).level == "ok"
    service.start()
    backup = backed_up(service)
    service.pause(container_id)
    service.end()
    restore(service, backup)
    files = sorted(store_of(service).parent.iterdir())
    outdated = store_line(service)
    assert (outdated.level, "lacks what has happened" in outdated.message) == ("warning", True)
    assert store_of(service).read_bytes() == backup.read_bytes()
    assert sorted(store_of(service).parent.iterdir()) == files
    service.start()
    assert service.state(container_id) == "paused"


def test_a_store_that_keeps_the_service_from_starting_fails(service: Service) -> None:
    backup = backed_up(service)
    newer = service.run()
    current = backed_up(service, "current")
    service.end()
    store_of(service).unlink()
    lost = store_line(service, status=1)
    assert (lost.level, "1 containers" in lost.message) == ("failed", True)
    restore(service, backup)
    outdated = store_line(service, status=1)
    assert (outdated.level, newer in outdated.message) == ("failed", True)
    assert "Restore" in outdated.remedy
    store_of(service).write_bytes(b"no store")
    broken = store_line(service, status=1)
    assert (broken.level, str(store_of(service)) in broken.message) == ("failed", True)
    restore(service, current)
    service.start()
    assert service.state(newer) == "running"


def metrics_line(service: Service, address: str) -> Found:
    """The one about an address of metrics, in place of that of the service."""
    found = of(findings(service, "--metrics-address", address), "addresses")
    (line,) = (each for each in found if address in each.message)
    return line


def test_metrics_are_looked_at_where_they_are_served(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(metrics_address="127.0.0.1:0")
    (served,) = (each for each in service.events() if each["event"] == "metrics.served")
    url = urlsplit(str(served["url"]))
    assert metrics_line(service, url.netloc).level == "ok"
    at_socket = f"unix://{tmp_path}/metrics.sock"
    nobody = metrics_line(service, at_socket)
    assert (nobody.level, nobody.remedy) == ("warning", "systemctl start ocigrpc")
    start_service(metrics_address=at_socket)
    assert metrics_line(service, at_socket).level == "ok"


def test_what_listens_at_the_address_of_metrics_and_has_none_is_reported(
    service: Service,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(128)
                connection.sendall(b"hello\n")

        with ThreadPoolExecutor() as pool:
            answered = pool.submit(answer)
            line = metrics_line(service, address)
            answered.result(LIMIT_S)
    assert (line.level, "without metrics" in line.message) == ("warning", True)


# Other users may not be able to read the interpreter's files, so all is imported before.
_AS_NOBODY = """
import os, sys
from ocigrpc.cli.doctor.command import checks, doctor
import ocigrpc.client, ocigrpc.rpc.unix_socket
from ocigrpc.cli.main import main
checks()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(["doctor", "--json", *sys.argv[1:]]))
"""


def test_a_user_who_is_not_root_learns_what_only_root_can_see(service: Service) -> None:
    words = [sys.executable, "-c", _AS_NOBODY, *_flags(service)]
    done = subprocess.run(
        words, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    found = [Found(**each) for each in json.loads(done.stdout)]
    assert "runs as root" in of(found, "privileges")[0].message
    assert {each.remedy for each in of(found, "directories")} == {"run doctor as root"}
    assert {each.level for each in of(found, "programs")} == {"ok"}
    (denied,) = failures(found)
    assert (denied.check, "permission denied" in denied.message) == ("addresses", True)


def test_the_service_is_that_of_the_address(service: Service, tmp_path: Path) -> None:
    for address, word in (
        (f"{service.directory}/socket", "answers"),
        (f"{tmp_path}/s", "not running"),
    ):
        argv = [sys.executable, "-m", "ocigrpc", "--address", address, "doctor", "--json"]
        done = subprocess.run(
            service.host.command([*argv, *_flags(service)]),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        found = of([Found(**each) for each in json.loads(done.stdout)], "service")
        assert word in found[0].message


def test_the_step_that_fails_is_named_and_its_container_removed(
    start_service: StartService, switches: Switches
) -> None:
    service = start_service(
        runtimes={"switched": {"path": str(switches.path)}}, default_runtime="switched"
    )
    with switches.on("start", "echo the moon is full >&2; exit 1"):
        (bad,) = failures(findings(service, status=1))
    assert bad.check == "service"
    assert "start failed" in bad.message
    assert "the moon is full" in bad.message
    assert service.ids() == []
