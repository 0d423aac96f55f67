"""Ends of containers whose exit code is unknown."""

from __future__ import annotations

from ocigrpc.v1.container_pb2 import ExitProvenance
from tests.bed.services.service import Service


def expect_unknown_exit(service: Service, container_id: str, why: str = "MONITOR_LOST") -> None:
    """Wait until it is stopped, with a reason in place of an exit code."""
    exit_status = service.wait(container_id)
    assert ExitProvenance.Name(exit_status.provenance) == f"EXIT_PROVENANCE_{why}"
    assert not exit_status.HasField("exit_code")
    assert exit_status.message
    assert service.state(container_id) == "stopped"
