"""What every RPC has in common: a call with its deadline, one line in the log, rich errors."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from structlog.contextvars import bind_contextvars

from ocigrpc.errors import (
    Cancelled,
    InvalidArgument,
    LimitReached,
    NotImplementedHere,
    OcigrpcError,
    Timeout,
    cut,
    host_failure,
)
from ocigrpc.log import get_logger
from ocigrpc.rpc.admission import Admission, shutting_down
from ocigrpc.rpc.bounds import check_counts
from ocigrpc.rpc.call import Call
from ocigrpc.rpc.errors import code_of, status_of
from ocigrpc.rpc.first_message import FirstMessageTimeout
from ocigrpc.rpc.listener import Listener
from ocigrpc.rpc.methods import Method, MethodTable
from ocigrpc.rpc.pool import close_after_call

# Most streams of other services, health and reflection, at once.
OTHER_STREAMS_LIMIT = 16

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

log = get_logger()


class Interceptor(grpc.ServerInterceptor):
    """Conducts the RPCs of all shapes; their handlers get a :class:`Call` for a context.

    The RPCs of services that have no rows in ``methods`` are only bounded, not conducted.
    ``count_limits`` is for :func:`check_counts`.
    """

    def __init__(
        self,
        admission: Admission,
        listener: Listener,
        methods: MethodTable,
        count_limits: Mapping[str, int],
    ) -> None:
        self._admission = admission
        self._listener = listener
        self._methods = methods
        self._count_limits = count_limits
        self._first_message = FirstMessageTimeout()
        self._other_streams = threading.Semaphore(OTHER_STREAMS_LIMIT)
        self._handlers: dict[str, _Handler] = {}

    def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Response] | None
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        """The handler of an RPC, made once for each."""
        path = handler_call_details.method
        if path not in self._handlers:
            handler = continuation(handler_call_details)
            if handler is None:
                # Not kept: whatever clients make up would be.
                return self._unknown(path)
            self._handlers[path] = self._conducted(path, handler)
        return self._handlers[path]

    def _unknown(self, path: str) -> _Handler | None:
        method = self._methods.find(path)
        if method is None:
            return None

        def refuse(_: object, call: Call) -> object:
            name = call.method.name
            raise NotImplementedHere(f"{call.method.service_name} has no {name}", rpc=name)

        # Of a shape that does not wait for a request, which may be of any shape itself.
        handler: _Handler = grpc.stream_unary_rpc_method_handler(refuse)
        return _handler_like(handler, self._one(method, handler), None)

    def _conducted(self, path: str, handler: _Handler) -> _Handler:
        method = self._methods.find(path)
        if method is not None:
            conducted = self._many if handler.response_streaming else self._one
            # Messages are decoded here, so that what is no message is an error like others.
            return _handler_like(handler, conducted(method, handler), None)
        parse = handler.request_deserializer if handler.request_streaming else None
        return _handler_like(handler, self._bounded(handler), parse)

    def _one(self, method: Method, handler: _Handler) -> Callable[..., object]:
        behavior, unpack = _behavior(handler), self._unpacking(handler)

        def answer(messages: Iterator[bytes], context: grpc.ServicerContext) -> object:
            with self._conduct(method, handler, messages, context) as (call, argument):
                response = behavior(unpack(argument), call)
            return response

        return answer

    def _many(self, method: Method, handler: _Handler) -> Callable[..., object]:
        behavior, unpack = _behavior(handler), self._unpacking(handler)

        def stream(messages: Iterator[bytes], context: grpc.ServicerContext) -> Generator[object]:
            with self._conduct(method, handler, messages, context) as (call, argument):
                yield from behavior(unpack(argument), call)

        def answers(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[object]:
            begun = stream(messages, context)
            close_after_call(begun)
            return begun

        return answers

    @contextmanager
    def _conduct(
        self,
        method: Method,
        handler: _Handler,
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> Iterator[tuple[Call, object]]:
        """The call, and what the client says: one message, or all that come."""
        began_ns = time.perf_counter_ns()
        call = Call(method, self._listener, context)
        # grpc gives each RPC a context of its own, which ends with it.
        bind_contextvars(
            request_id=call.request_id, rpc=method.name, **self._listener.caller(context)
        )
        try:
            self._listener.check(method)
            said = self._said(handler, messages, context)
            self._admission.admit(call)
            try:
                yield call, said
            finally:
                self._admission.release(call)
        except Exception as error:
            # Not kept in a variable: its traceback would lead back to here, and keep all that
            # the call had until the garbage collector comes.
            context.abort_with_status(_logged_status(error, call, began_ns))
        except GeneratorExit:
            # The client left a stream between two of its answers.
            _log_failure(Cancelled("the caller has gone"), None, began_ns)
            raise
        log.info("rpc.finished", code="OK", duration_ms=_ms_since(began_ns))

    def _said(
        self, handler: _Handler, messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes] | bytes:
        """The message of a client, or for a handler of many the messages."""
        return (
            messages
            if handler.request_streaming
            else self._first_message.message(messages, context)
        )

    def _bounded(self, handler: _Handler) -> Callable[..., object]:
        behavior, unpack = _behavior(handler), self._unpacking(handler)
        is_stream = handler.request_streaming or handler.response_streaming

        # Keeps the attributes by which health asks not to hold a thread for each stream.
        @functools.wraps(behavior)
        def bounded(
            messages: Iterator[bytes], context: grpc.ServicerContext, *rest: object
        ) -> object:
            try:
                if is_stream:
                    self._count_stream(context)
                said = self._said(handler, messages, context)
                request = said if handler.request_streaming else unpack(said)
            except OcigrpcError as error:
                context.abort_with_status(status_of(error))
            return behavior(request, context, *rest)

        return bounded

    def _unpacking(self, handler: _Handler) -> Callable[[Any], object]:
        """From the bytes that grpc hands over to what the handler wants: a message, or many."""
        parse = handler.request_deserializer

        def message(data: bytes) -> object:
            try:
                request = parse(data) if parse else data
            except DecodeError:
                raise InvalidArgument.of(
                    "request", "is no such message", reason="MALFORMED_MESSAGE"
                ) from None
            container_id = getattr(request, "container_id", "")
            if container_id:
                bind_contextvars(container_id=container_id[:64])
            if isinstance(request, Message):
                check_counts(request, self._count_limits)
            return request

        return functools.partial(map, message) if handler.request_streaming else message

    def _count_stream(self, context: grpc.ServicerContext) -> None:
        """Until it ends, a stream of another service takes a place; raises ``LimitReached``."""
        free = self._other_streams
        if not free.acquire(blocking=False):
            raise LimitReached(
                f"{OTHER_STREAMS_LIMIT} streams are open already",
                reason="TOO_MANY_STREAMS",
                limit=OTHER_STREAMS_LIMIT,
            )
        if not context.add_callback(free.release):
            free.release()


def _logged_status(error: Exception, call: Call, began_ns: int) -> grpc.Status:
    failure = _failure(error, call)
    _log_failure(failure, error, began_ns)
    return status_of(failure)


def _failure(error: Exception, call: Call) -> OcigrpcError:
    """What is said of an exception to the outside."""
    if isinstance(error, Cancelled | grpc.RpcError):
        if call.dismissed:
            return shutting_down()
        # grpc cancels a call whose time is up, so that the deadline may look like a cancel.
        if not call.deadline.remaining_s():
            return Timeout("the deadline has passed")
        return error if isinstance(error, Cancelled) else Cancelled("the caller has gone")
    if isinstance(error, OcigrpcError):
        return error
    if isinstance(error, OSError):
        return host_failure(error)
    return OcigrpcError(
        f"a defect of the service; its log has more on request {call.request_id}",
        request_id=call.request_id,
    )


def _log_failure(failure: OcigrpcError, error: Exception | None, began_ns: int) -> None:
    unexpected = error is not None and not isinstance(error, OcigrpcError | grpc.RpcError)
    (log.error if unexpected else log.warning)(
        "rpc.finished",
        code=code_of(failure).name,
        duration_ms=_ms_since(began_ns),
        reason=failure.reason,
        message=cut(failure.message),
        metadata={key: cut(value) for key, value in failure.metadata.items()},
        exc_info=error if unexpected else None,
    )


def _ms_since(began_ns: int) -> float:
    return (time.perf_counter_ns() - began_ns) // 1000 / 1000


def _behavior(handler: _Handler) -> Callable[..., Any]:
    """The function of a handler, whichever its shape."""
    found = handler.unary_unary or handler.unary_stream
    found = found or handler.stream_unary or handler.stream_stream
    assert found is not None, "grpc has four shapes"
    return found


def _handler_like(
    handler: _Handler, behavior: Callable[..., Any], parse: Callable[[bytes], Any] | None
) -> _Handler:
    """A handler that is given the messages as they come, whether it takes one or many.

    To clients both are the same. But for a single message grpc itself waits, before it calls
    the handler, and for as long as the client stays.
    """
    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    return make(behavior, parse, handler.response_serializer)
