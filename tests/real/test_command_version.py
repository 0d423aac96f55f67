"""``version``: of the command, and of the service if there is one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ocigrpc import __version__
from tests.bed.clients.command import Command, argv_of
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service


def test_versions_of_command_service_monitor_and_runtimes(service: Service) -> None:
    command = Command(service)
    lines = dict(line.split(maxsplit=1) for line in command.lines("version"))
    assert lines["client:"] == __version__
    assert lines["service:"].startswith(__version__)
    assert "conmon" in lines["monitor:"]
    assert "runc" in lines["runtime:"]
    found = json.loads("\n".join(command.lines("version", "-o", "json")))
    assert found["client"]["version"] == __version__
    assert "runc" in {each["name"] for each in found["service"]["runtime_handlers"]}


def test_without_a_service_it_prints_its_own_and_fails(tmp_path: Path) -> None:
    argv = [*argv_of(str(tmp_path / "socket"), "version"), "--output", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 1
    assert "not running" in done.stderr
    assert json.loads(done.stdout) == {
        "client": {"version": __version__, "runtime_api_version": "v1"}
    }
