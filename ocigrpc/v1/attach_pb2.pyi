import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from ocigrpc.v1 import terminal_pb2 as _terminal_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttachRequest(_message.Message):
    __slots__ = ("start", "stdin", "resize", "close_stdin")
    START_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_STDIN_FIELD_NUMBER: _ClassVar[int]
    start: AttachStart
    stdin: bytes
    resize: _terminal_pb2.TerminalSize
    close_stdin: _terminal_pb2.CloseStdin
    def __init__(self, start: _Optional[_Union[AttachStart, _Mapping]] = ..., stdin: _Optional[bytes] = ..., resize: _Optional[_Union[_terminal_pb2.TerminalSize, _Mapping]] = ..., close_stdin: _Optional[_Union[_terminal_pb2.CloseStdin, _Mapping]] = ...) -> None: ...

class AttachStart(_message.Message):
    __slots__ = ("container_id", "stdin", "stdout", "stderr", "terminal_size", "block_timeout")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    stdin: bool
    stdout: bool
    stderr: bool
    terminal_size: _terminal_pb2.TerminalSize
    block_timeout: _duration_pb2.Duration
    def __init__(self, container_id: _Optional[str] = ..., stdin: bool = ..., stdout: bool = ..., stderr: bool = ..., terminal_size: _Optional[_Union[_terminal_pb2.TerminalSize, _Mapping]] = ..., block_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class AttachResponse(_message.Message):
    __slots__ = ("attached", "stdout", "stderr")
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    attached: Attached
    stdout: bytes
    stderr: bytes
    def __init__(self, attached: _Optional[_Union[Attached, _Mapping]] = ..., stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ...) -> None: ...

class Attached(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
