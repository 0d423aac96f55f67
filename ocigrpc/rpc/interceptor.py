"""What all RPCs have in common: a call with its deadline, one line in the log, rich errors."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from ocigrpc.errors import (
    Cancelled,
    InvalidArgument,
    LimitReached,
    NotImplementedHere,
    OcigrpcError,
    Timeout,
)
from ocigrpc.failing import host_failure
from ocigrpc.log import bind_log
from ocigrpc.rpc.admission import Admission, shutting_down
from ocigrpc.rpc.bounds import check_counts
from ocigrpc.rpc.call import Call
from ocigrpc.rpc.call_log import CallLog
from ocigrpc.rpc.errors import status_of
from ocigrpc.rpc.first_message import FirstMessageTimeout
from ocigrpc.rpc.listener import Listener
from ocigrpc.rpc.methods import Method, MethodTable
from ocigrpc.rpc.pool import close_after_call
from ocigrpc.traces import begin_call

# Most streams of health and reflection at the same time; channelz has none.
OTHER_STREAMS_LIMIT = 16

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Interceptor(grpc.ServerInterceptor):
    """Serves the RPCs of all shapes; their handlers get a :class:`Call` as the context.

    Services without policies in ``methods``, health, reflection and channelz, only get limits.
    ``count_limits`` is for :func:`check_counts`.
    """

    def __init__(
        self,
        admission: Admission,
        listener: Listener,
        methods: MethodTable,
        count_limits: Mapping[str, int],
        call_log: CallLog,
    ) -> None:
        self._admission = admission
        self._listener = listener
        self._methods = methods
        self._count_limits = count_limits
        self._call_log = call_log
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
        """The wrapped handler of an RPC, made once."""
        path = handler_call_details.method
        if path not in self._handlers:
            handler = continuation(handler_call_details)
            if handler is None:
                # Not kept, because clients can invent any number of names.
                return self._unimplemented(path)
            self._handlers[path] = self._wrapped(path, handler)
        return self._handlers[path]

    def _unimplemented(self, path: str) -> _Handler | None:
        method = self._methods.find(path)
        if method is None:
            return None

        def refuse(_: object, call: Call) -> object:
            name = call.method.name
            raise NotImplementedHere(f"{call.method.service_name} has no {name}", rpc=name)

        # This shape does not wait for a request, and the unknown method may have any shape.
        handler: _Handler = grpc.stream_unary_rpc_method_handler(refuse)
        return _handler_like(handler, self._unary(method, handler), None)

    def _wrapped(self, path: str, handler: _Handler) -> _Handler:
        method = self._methods.find(path)
        if method is not None:
            wrap = self._streaming if handler.response_streaming else self._unary
            # Messages are decoded here, so that a malformed one gets an error like others.
            return _handler_like(handler, wrap(method, handler), None)
        parse = handler.request_deserializer if handler.request_streaming else None
        return _handler_like(handler, self._bounded(handler), parse)

    def _unary(self, method: Method, handler: _Handler) -> Callable[..., object]:
        handle, decode = _function(handler), self._decoder(handler)

        def respond(messages: Iterator[bytes], context: grpc.ServicerContext) -> object:
            with self._serve(method, handler, messages, context) as (call, encoded):
                response = handle(decode(encoded), call)
            return response

        return respond

    def _streaming(self, method: Method, handler: _Handler) -> Callable[..., object]:
        handle, decode = _function(handler), self._decoder(handler)

        def stream(messages: Iterator[bytes], context: grpc.ServicerContext) -> Generator[object]:
            with self._serve(method, handler, messages, context) as (call, encoded):
                yield from handle(decode(encoded), call)

        def respond(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[object]:
            responses = stream(messages, context)
            close_after_call(responses)
            return responses

        return respond

    @contextmanager
    def _serve(
        self,
        method: Method,
        handler: _Handler,
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> Iterator[tuple[Call, object]]:
        """The admitted call, and its encoded request, or the iterator of its requests."""
        call = Call(method, self._listener, context, self._admission.count_streams)
        began_ns = call.began_ns
        # grpc runs each RPC in its own context, so the span and the variables end with it.
        begin_call(method.known_name, context.invocation_metadata)
        bind_log(request_id=call.request_id, rpc=method.name, **self._listener.caller(context))
        try:
            self._listener.check(method)
            encoded = self._encoded(handler, messages, context)
            self._admission.admit(call)
            try:
                yield call, encoded
            finally:
                self._admission.release(call)
        except Exception as error:
            # The failure is not kept in a variable: its traceback refers to this frame, and would
            # keep everything that the call holds until the garbage collector runs.
            context.abort_with_status(self._logged_status(error, call, began_ns))
        except GeneratorExit:
            # The client left the stream between two responses, or did not read the last one.
            gone = shutting_down() if call.dismissed else Cancelled("the caller has gone")
            self._call_log.failed(method, gone, None, began_ns)
            raise
        self._call_log.finished(method, began_ns)

    def _logged_status(self, error: Exception, call: Call, began_ns: int) -> grpc.Status:
        failure = _failure(error, call)
        self._call_log.failed(call.method, failure, error, began_ns)
        return status_of(failure)

    def _encoded(
        self, handler: _Handler, messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes] | bytes:
        """The one message of the client, or all of them for a handler of a stream."""
        return (
            messages
            if handler.request_streaming
            else self._first_message.message(messages, context)
        )

    def _bounded(self, handler: _Handler) -> Callable[..., object]:
        handle, decode = _function(handler), self._decoder(handler)
        is_stream = handler.request_streaming or handler.response_streaming

        def bounded(messages: Iterator[bytes], context: grpc.ServicerContext) -> object:
            try:
                if is_stream:
                    self._count_stream(context)
                encoded = self._encoded(handler, messages, context)
                request = encoded if handler.request_streaming else decode(encoded)
            except OcigrpcError as error:
                context.abort_with_status(status_of(error))
            return handle(request, context)

        return bounded

    def _decoder(self, handler: _Handler) -> Callable[[Any], object]:
        """What makes the handler's argument, a message or many, from bytes."""
        parse = handler.request_deserializer

        def decode(data: bytes) -> object:
            try:
                request = parse(data) if parse else data
            except DecodeError:
                raise InvalidArgument.of(
                    "request", "is no such message", reason="MALFORMED_MESSAGE"
                ) from None
            container_id = getattr(request, "container_id", "")
            if container_id:
                bind_log(container_id=container_id[:64])
            if isinstance(request, Message):
                check_counts(request, self._count_limits)
            return request

        return functools.partial(map, decode) if handler.request_streaming else decode

    def _count_stream(self, context: grpc.ServicerContext) -> None:
        """Take a place for a stream, until it ends. Raises ``LimitReached``."""
        places = self._other_streams
        if not places.acquire(blocking=False):
            raise LimitReached(
                f"{OTHER_STREAMS_LIMIT} streams are open already",
                reason="TOO_MANY_STREAMS",
                limit=OTHER_STREAMS_LIMIT,
            )
        if not context.add_callback(places.release):
            places.release()


def _failure(error: Exception, call: Call) -> OcigrpcError:
    """The error that the client gets for an exception, with all that is known of it."""
    failure = _translated(error, call)
    if failure is not error and isinstance(error, OcigrpcError):
        failure.metadata |= error.metadata
    return failure


def _translated(error: Exception, call: Call) -> OcigrpcError:
    if isinstance(error, Cancelled | grpc.RpcError):
        if call.dismissed:
            return shutting_down()
        # grpc cancels a call at its deadline, which then looks like a cancellation.
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


def _function(handler: _Handler) -> Callable[..., Any]:
    """The function of a handler of any shape."""
    found = handler.unary_unary or handler.unary_stream
    found = found or handler.stream_unary or handler.stream_stream
    assert found is not None, "grpc has four shapes"
    return found


def _handler_like(
    handler: _Handler, function: Callable[..., Any], parse: Callable[[bytes], Any] | None
) -> _Handler:
    """A handler that gets an iterator of messages, even if it takes only one.

    Clients see no difference. But if the handler took one message, grpc itself would wait for
    it before the call of the handler, as long as the client stays connected.
    """
    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    return make(function, parse, handler.response_serializer)
