"""A service that dies at the moments of its work that a test names, and comes back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import grpc
import pytest

from ocigrpc.errors import OcigrpcError
from tests.bed.checks.bystander import Bystander
from tests.bed.clients.error_info import code_of
from tests.bed.services.service import Service

# The container that the deadly moments are about.
VICTIM = "victim"


class CrashingService:
    """A service that can die at ``places``, as :mod:`tests.bed.faults.crashing` names them."""

    def __init__(self, service: Service, places: Collection[str]) -> None:
        self.service = service
        self._places = sorted(set(places))
        self._fuse = service.directory / "fuse"
        service.end()
        self.restart()
        self.bystander = Bystander(service)

    def restart(self) -> None:
        self._fuse.unlink(missing_ok=True)
        self.service.start("tests.bed.faults.crashing", str(self._fuse), *self._places)

    def light(self, when: str, place: str) -> None:
        """Have it die ``before`` or ``after`` the next call at a place."""
        self._fuse.write_text(f"{when} {place}")

    def die_over(self, when: str, place: str, call: Callable[[], object]) -> str:
        """Let it die at a moment of this call, and start it again; the status code of the call."""
        self.light(when, place)
        with pytest.raises((OcigrpcError, grpc.RpcError)) as caught:
            call()
        self.service.expect_death()
        self.restart()
        assert isinstance(caught.value, OcigrpcError | grpc.RpcError)
        return code_of(caught.value).name

    @contextmanager
    def used(self) -> Iterator[None]:
        """For one test, which leaves only the victim, and does not disturb the bystander."""
        yield
        # A fuse that has not fired in its test would fire in the clean-up, or in the next test.
        self._fuse.unlink(missing_ok=True)
        if not self.service.is_alive():
            self.restart()
        self.service.remove(VICTIM, force=True)
        self.bystander.expect_undisturbed()
