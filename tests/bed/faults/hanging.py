"""An OCI runtime whose verbs hang once a file is there, and a call that hangs in each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ocigrpc.settings.values import Settings
from ocigrpc.v1 import runtime_pb2 as pb
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from tests.bed.clients.verb_calls import VERBS, begin, make_ready
from tests.bed.hosts.leaks import until

HANDLER = "hanging"

# Creates that hang besides, more than may run at once.
CREATES = 70

_AT_ONCE = Settings().limits.unary_threads
_LIMIT_S = 60.0
_SCRIPT = """#!/bin/sh
[ -e "$0.hang" ] || exec runc "$@"
echo >> "$0.hang"
exec sleep 1000
"""


class Hanging:
    """The runtime, at ``path``; it is runc until :meth:`verbs` makes it hang."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "hanging"
        self.path.write_text(_SCRIPT)
        self.path.chmod(0o755)
        self._switch = directory / "hanging.hang"

    @contextmanager
    def verbs(self, stub: RuntimeServiceStub, bundle: str) -> Iterator[None]:
        """A call hangs in each verb, and of creates all that may, while the block runs."""
        with ExitStack() as stack:
            for verb in VERBS[1:]:
                stack.callback(
                    stub.RemoveContainer, pb.RemoveContainerRequest(container_id=verb, force=True)
                )
                make_ready(stub, verb, _create(verb, bundle))
            stack.callback(self._switch.unlink)
            self._switch.touch()
            for verb in VERBS:
                stack.callback(begin(stub, verb, _create(verb, bundle)).cancel)
            for number in range(CREATES):
                more = _create(f"create-{number}", bundle)
                stack.callback(begin(stub, "create", more).cancel)
            hanging = len(VERBS) + _AT_ONCE - 1
            until(lambda: len(self._switch.read_bytes()) >= hanging, _LIMIT_S)
            yield


@contextmanager
def hanging_runtime() -> Iterator[Hanging]:
    """The runtime, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="ocigrpc-hanging-") as directory:
        yield Hanging(Path(directory))


def _create(verb: str, bundle: str) -> pb.CreateContainerRequest:
    """That of a container which is named after the verb."""
    return pb.CreateContainerRequest(bundle_path=bundle, container_id=verb, runtime_handler=HANDLER)
