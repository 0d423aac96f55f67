"""Many clients at once, and what they are answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from random import Random
from typing import NamedTuple

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import StatusCode
from grpc_status import rpc_status

from ocigrpc.v1 import attach_pb2, exec_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from tests.real.load_requests import Requests
from tests.real.service import Service

LIMIT_S = 60.0
"""How long a call may take that is not meant to be cut off."""

_CUT_OFF = 0.05
"""The part of the calls that get next to no time."""

_STREAM_S = 5.0
"""About how long a stream is open."""

_PAUSE_S = 0.05
"""Before a stream takes the place of another."""

_EXPECTED = frozenset(
    {
        StatusCode.NOT_FOUND,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.ABORTED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.CANCELLED,
        # Calls that were cut off count until what they began is undone.
        StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""What clients have to reckon with who know nothing of each other."""


class Refusal(NamedTuple):
    """How a call failed."""

    rpc: str
    code: StatusCode
    reason: str
    words: str

    @classmethod
    def of(cls, rpc: str, error: grpc.RpcError) -> Refusal:
        """What an error tells."""
        assert isinstance(error, grpc.Call)
        info, status = ErrorInfo(), rpc_status.from_call(error)
        for detail in status.details if status else ():
            detail.Unpack(info)
        return cls(rpc, error.code(), info.reason, f"{error.details()} {dict(info.metadata)}")


class Load:
    """Clients that call a service about the same containers, and how they fare."""

    def __init__(self, service: Service, requests: Requests) -> None:
        self._service = service
        self._requests = requests
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.served: Counter[str] = Counter()
        """How often an RPC was answered with a message."""
        self.unexpected: Counter[Refusal] = Counter()
        """Refusals that no client can reckon with."""

    def populate(self) -> None:
        """Make and start every container."""

        def run(container_id: str) -> None:
            request = self._requests.create(container_id)
            self._service.rpc.CreateContainer(request, timeout=LIMIT_S)
            start = pb.StartContainerRequest(container_id=container_id)
            self._service.rpc.StartContainer(start, timeout=LIMIT_S)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, self._requests.ids))

    @contextmanager
    def running(self, clients: int, streams: int) -> Iterator[None]:
        """So many clients that call without a pause, and so many streams, beside the block."""
        with ThreadPoolExecutor(clients + streams) as pool, ExitStack() as stack:
            rpcs = [stack.enter_context(_connection(self._service)) for _ in range(clients)]
            seeds = range(clients + streams)
            work = [
                pool.submit(
                    self._call if seed < clients else self._stream,
                    Random(seed),
                    rpcs[seed % clients],
                )
                for seed in seeds
            ]
            try:
                yield
            finally:
                self._over.set()
            for each in work:
                each.result(2 * LIMIT_S)

    def _call(self, random: Random, rpc: RuntimeServiceStub) -> None:
        while not self._over.is_set():
            cut_off = random.random() < _CUT_OFF
            timeout_s = random.uniform(0.001, 0.3) if cut_off else LIMIT_S
            for request in self._requests.unary(random):
                with self._noted(request) as name:
                    getattr(rpc, name)(request, timeout=timeout_s)
                    self._serve(name)

    def _stream(self, random: Random, rpc: RuntimeServiceStub) -> None:
        while not self._over.wait(_PAUSE_S):
            request = self._requests.stream(random)
            timeout_s, leaves = random.uniform(0.1, 2 * _STREAM_S), random.random() < 0.3
            with self._noted(request) as name:
                if name == "WaitContainer":
                    getattr(rpc, name)(request, timeout=timeout_s)
                    self._serve(name)
                    continue
                talks = isinstance(request, attach_pb2.AttachRequest | exec_pb2.ExecRequest)
                call = getattr(rpc, name)(iter([request]) if talks else request, timeout=timeout_s)
                for _ in call:
                    self._serve(name)
                    if leaves:
                        call.cancel()

    @contextmanager
    def _noted(self, request: Message) -> Iterator[str]:
        """The name of the request's RPC; how it was refused, if so, is noted."""
        name = request.DESCRIPTOR.name.removesuffix("Request")
        try:
            yield name
        except grpc.RpcError as error:
            refusal = Refusal.of(name, error)
            if refusal.code not in _EXPECTED:
                with self._lock:
                    self.unexpected[refusal] += 1

    def _serve(self, name: str) -> None:
        with self._lock:
            self.served[name] += 1


@contextmanager
def _connection(service: Service) -> Iterator[RuntimeServiceStub]:
    address = f"unix:{service.directory}/socket"
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield RuntimeServiceStub(channel)
