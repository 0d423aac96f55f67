"""SIGHUP: a service that runs reads its settings again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ocigrpc.settings.values import Settings
from ocigrpc.v1.runtime_pb2 import StopContainerRequest
from tests.bed.clients.refusal import refused
from tests.bed.services.service import Service
from tests.real.conftest import StartService


class Configured:
    """A service with a settings file."""

    def __init__(self, start: StartService, path: Path) -> None:
        self.path = path
        path.write_text("")
        self.service: Service = start(config=path)

    def reload(self, text: str) -> dict[str, object]:
        """Have it read this file; the event with what has come of it."""
        self.path.write_text(text)
        os.kill(self.service.pid, signal.SIGHUP)
        self.service.wait_for_word("READY=1")
        events = self.service.events()
        return [each for each in events if str(each["event"]).startswith("settings.")][-1]


@pytest.fixture
def configured(start_service: StartService, tmp_path: Path) -> Configured:
    return Configured(start_service, tmp_path / "ocigrpc.toml")


def test_what_can_be_reloaded_is_in_force_and_the_rest_is_named(configured: Configured) -> None:
    service = configured.service
    text = 'log_level = "debug"\nevent_history = 50\n[timeouts]\nstop_s = 0.0001\n'
    event = configured.reload(text)
    assert (event["event"], event["level"]) == ("settings.reloaded", "info")
    assert event["changed"] == ["log_level", "timeouts.stop_s"]
    assert event["at_restart"] == ["event_history"]
    in_force = service.client.status().settings
    assert in_force["log_level"] == "debug"
    assert in_force["event_history"] == 10_000
    # It ignores the stop signal, and the default time would be longer than the call's.
    container_id = service.run("trap '' TERM; while :; do sleep 0.05; done")
    request = StopContainerRequest(container_id=container_id)
    service.wire.StopContainer(request, timeout=Settings().timeouts.stop_s / 2)
    assert service.state(container_id) == "stopped"


def test_calls_that_only_read_are_logged_once_the_level_says_so(configured: Configured) -> None:
    service = configured.service
    service.ids()
    configured.reload('log_level = "debug"')
    service.ids()
    lines = [each for each in service.events() if each.get("rpc") == "ListContainers"]
    assert [each["level"] for each in lines] == ["debug"]


def test_a_broken_file_changes_nothing(configured: Configured) -> None:
    service = configured.service
    for text in ("not TOML", "log_level = 'loud'", "[limits]\ncontainers = 100000000"):
        event = configured.reload(f"log_calls = 'all'\n{text}")
        assert (event["event"], event["level"]) == ("settings.refused", "error")
    event = configured.reload("[conmon]\npath = '/none/conmon'")
    assert (event["event"], event["path"]) == ("settings.refused", "/none/conmon")
    # What would only be used at the next start, and keep it from starting then.
    wrong = {
        "[socket]\ngroup = 'nosuchgroup'": "UNKNOWN_GROUP",
        "[metrics]\naddress = 'unix:///run/m.sock'\ngroup = 'nosuchgroup'": "UNKNOWN_GROUP",
        "[tcp]\naddress = '127.0.0.1:0'\n[tls]\ncert_path = '/none'\nkey_path = '/none'"
        "\nclient_ca_path = '/none'": "CERTIFICATE_UNUSABLE",
    }
    for text, reason in wrong.items():
        event = configured.reload(f"log_calls = 'all'\n{text}")
        assert (event["event"], event["reason"]) == ("settings.refused", reason)
    in_force = service.client.status().settings
    assert in_force["log_calls"] == "changes"
    service.run()


def test_a_reload_that_hangs_does_not_delay_the_end(configured: Configured) -> None:
    service = configured.service
    configured.path.unlink()
    # Nobody ever writes to it.
    os.mkfifo(configured.path)
    os.kill(service.pid, signal.SIGHUP)
    service.wait_for_word("RELOADING=1")
    service.end()
    # For the next service.
    configured.path.unlink()
    configured.path.write_text("")


def test_a_signal_during_the_start_is_obeyed_once_it_is_ready(configured: Configured) -> None:
    service = configured.service
    service.end()
    service.launch()
    service.wait_for_word("STATUS=Finding containers again")
    configured.path.write_text('log_level = "debug"')
    os.kill(service.pid, signal.SIGHUP)
    service.wait_for_word("READY=1")
    # What follows the reload.
    service.wait_for_word("READY=1")
    service.connect()
    assert service.client.status().settings["log_level"] == "debug"


def test_a_limit_of_containers_holds_from_then_on(configured: Configured) -> None:
    service = configured.service
    kept = {service.run(), service.run()}
    configured.reload("[limits]\ncontainers = 1")
    with refused("RESOURCE_EXHAUSTED", "TOO_MANY_CONTAINERS"):
        service.create()
    configured.reload("[limits]\ncontainers = 3")
    assert set(service.ids()) == kept
    service.create()


def test_a_runtime_can_be_added_while_containers_of_others_live(configured: Configured) -> None:
    service = configured.service
    first = service.run()
    event = configured.reload(f"[runtimes.other]\npath = 'runc'\nroot = '{service.directory}/runc'")
    assert event["changed"] == ["runtimes"]
    second = service.create(runtime_handler="other").container_id
    configured.reload("")
    for container_id in (first, second):
        service.remove(container_id, force=True)


def test_a_runtime_keeps_its_containers_whatever_a_reload_says(configured: Configured) -> None:
    service = configured.service
    configured.reload("[runtimes.other]\npath = 'runc'")
    container_id = service.create(runtime_handler="other").container_id
    moved = f"{service.directory}/runc"
    for text, key in ((f"root = '{moved}'", "root"), (f"args = ['--root', '{moved}']", "args")):
        event = configured.reload(f"[runtimes.other]\npath = 'runc'\n{text}")
        assert (event["changed"], event["at_restart"]) == ([], [f"runtimes.other.{key}"])
    assert configured.reload("")["at_restart"] == ["runtimes.other"]
    service.start_container(container_id)
    service.remove(container_id, force=True)
