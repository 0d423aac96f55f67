"""Many clients at once, and the answers that they get."""

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
from grpc import StatusCode

from ocigrpc.v1 import attach_pb2, copy_pb2, exec_pb2
from ocigrpc.v1 import runtime_pb2 as pb
from ocigrpc.v1.runtime_pb2_grpc import RuntimeServiceStub
from tests.bed.bundles.archives import archive, member
from tests.bed.clients.error_info import error_details
from tests.bed.loads.requests import Requests
from tests.bed.services.service import Service

# How long a call may take that is not meant to be cut off: on a busy machine a fair share of
# these minutes goes by while it waits for its turn.
LIMIT_S = 240.0

# The part of the calls that get next to no time.
_CUT_OFF = 0.05

# About how long a stream is open.
_STREAM_S = 5.0

# Before a stream takes the place of another.
_PAUSE_S = 0.05

# Codes that clients must expect that know nothing of each other.
_EXPECTED = frozenset({StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION, StatusCode.ABORTED})

# Codes that clients must expect besides that leave, or have little time.
_CUT_OFF_CODES = frozenset({StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED})

# Why all are refused for a while: a call that was cut off counts until it is undone.
_LIMITS = frozenset("TOO_MANY_CALLS TOO_MANY_STREAMS".split())

# Why streams end on a machine that is too busy to read them.
_SLOW_READERS = frozenset("EVENTS_TOO_SLOW ATTACH_TOO_SLOW".split())

# What is copied into containers.
_ARCHIVE = copy_pb2.CopyIntoRequest(chunk=archive((member("load"), b"x" * 1000)))

# Answered with one message, but only when a container has got that far: one that other
# clients have made again, or paused, may never.
_OPEN_ENDED = frozenset({"WaitContainer"})

# Why programs are ended that have a limit of their own, as those of a paused container. Their
# calls need no other limit, so that a call which hangs all the same is seen.
_OVERDUE = "EXEC_TIMEOUT"


class Refusal(NamedTuple):
    """How a call failed."""

    rpc: str
    code: StatusCode
    reason: str
    message: str

    @classmethod
    def of(cls, rpc: str, error: grpc.RpcError) -> Refusal:
        assert isinstance(error, grpc.Call)
        info, _ = error_details(error)
        return cls(rpc, error.code(), info.reason, f"{error.details()} {dict(info.metadata)}")

    def is_expected(self, cut_off: bool, streams: bool) -> bool:
        """Whether a call that was meant to be cut off, or to stream, may fail so."""
        if self.code is StatusCode.RESOURCE_EXHAUSTED:
            return self.reason in _LIMITS or (streams and self.reason in _SLOW_READERS)
        if self.reason == _OVERDUE:
            return True
        return self.code in _EXPECTED or (cut_off and self.code in _CUT_OFF_CODES)


class Load:
    """Clients that call a service about the same containers, and their answers."""

    def __init__(self, service: Service, requests: Requests) -> None:
        self._service = service
        self._requests = requests
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.served: Counter[str] = Counter()
        """How often an RPC was answered with a message."""
        self.unexpected: Counter[Refusal] = Counter()
        """Refusals that no client has to expect."""

    def populate(self) -> None:

        def run(container_id: str) -> None:
            request = self._requests.create(container_id)
            self._service.wire.CreateContainer(request, timeout=LIMIT_S)
            start = pb.StartContainerRequest(container_id=container_id)
            self._service.wire.StartContainer(start, timeout=LIMIT_S)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, self._requests.ids))

    @contextmanager
    def running(self, clients: int, streams: int) -> Iterator[None]:
        """So many clients that call without a pause, and so many streams, beside the block."""
        with ThreadPoolExecutor(clients + streams) as pool, ExitStack() as stack:
            users = [self._service.another() for _ in range(clients)]
            for user in users:
                stack.callback(user.disconnect)
            seeds = range(clients + streams)
            work = [
                pool.submit(
                    self._call if seed < clients else self._stream,
                    Random(seed),
                    users[seed % clients].wire,
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
            hurried = random.random() < _CUT_OFF
            for request in self._requests.unary(random):
                name = _name_of(request)
                cut_off = hurried or name in _OPEN_ENDED
                timeout_s = LIMIT_S
                if cut_off:
                    timeout_s = random.uniform(0.001, 0.3 if hurried else 2 * _STREAM_S)
                with self._noted(name, cut_off=cut_off):
                    getattr(rpc, name)(request, timeout=timeout_s)
                    self._serve(name)

    def _stream(self, random: Random, rpc: RuntimeServiceStub) -> None:
        while not self._over.wait(_PAUSE_S):
            request = self._requests.stream(random)
            timeout_s, leaves = random.uniform(0.1, 2 * _STREAM_S), random.random() < 0.3
            name = _name_of(request)
            with self._noted(name, cut_off=True, streams=True):
                call = getattr(rpc, name)
                if name == "CopyInto":
                    call(iter([request, _ARCHIVE]), timeout=timeout_s)
                    self._serve(name)
                    continue
                if name == "WaitContainer":
                    call(request, timeout=timeout_s)
                    self._serve(name)
                    continue
                streams = isinstance(request, attach_pb2.AttachRequest | exec_pb2.ExecRequest)
                answers = call(iter([request]) if streams else request, timeout=timeout_s)
                for _ in answers:
                    self._serve(name)
                    if leaves:
                        answers.cancel()

    @contextmanager
    def _noted(self, name: str, *, cut_off: bool, streams: bool = False) -> Iterator[None]:
        """How a call of this RPC was refused, if it was, is noted."""
        try:
            yield
        except grpc.RpcError as error:
            refusal = Refusal.of(name, error)
            if not refusal.is_expected(cut_off, streams):
                with self._lock:
                    self.unexpected[refusal] += 1

    def _serve(self, name: str) -> None:
        with self._lock:
            self.served[name] += 1


def _name_of(request: Message) -> str:
    """The RPC that a request is for."""
    return request.DESCRIPTOR.name.removesuffix("Request")
