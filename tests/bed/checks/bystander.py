"""A container that no call is about, and that nothing may disturb."""

from __future__ import annotations

from ocigrpc.host.processes.process import Process
from tests.bed.hosts.leaks import until
from tests.bed.services.service import Service

# Slowly: in hours of a soak its log must not rotate, and each check reads all of it.
_COUNTS = """trap 'exit 33' TERM; i=0
while :; do i=$((i + 1)); echo $i; sleep 0.2; done"""


class Bystander:
    """A container that counts for as long as it runs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.container_id = service.run(_COUNTS, container_id="bystander")
        self._process = Process(service.status(self.container_id).pid)

    def expect_undisturbed(self) -> None:
        """The same process runs on, and has written every number."""
        status = self._service.status(self.container_id)
        assert Process(status.pid).identity == self._process.identity
        assert self._service.state(self.container_id) == "running"
        assert not status.monitor_lost
        counted = self._numbers()
        until(lambda: len(self._numbers()) > len(counted))

    def end(self) -> None:
        """It counts until SIGTERM ends it, with an exit code of its own."""
        self.expect_undisturbed()
        self._service.kill(self.container_id, "TERM")
        assert self._service.wait(self.container_id).exit_code == 33
        self._numbers()
        self._service.remove(self.container_id)

    def _numbers(self) -> list[str]:
        numbers = self._service.output(self.container_id)
        assert numbers == [str(number + 1) for number in range(len(numbers))]
        return numbers
