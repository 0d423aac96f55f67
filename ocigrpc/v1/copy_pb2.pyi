import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CopyOutRequest(_message.Message):
    __slots__ = ("container_id", "path", "follow_link", "name", "stat_only")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_LINK_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STAT_ONLY_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    path: str
    follow_link: bool
    name: str
    stat_only: bool
    def __init__(self, container_id: _Optional[str] = ..., path: _Optional[str] = ..., follow_link: bool = ..., name: _Optional[str] = ..., stat_only: bool = ...) -> None: ...

class PathStat(_message.Message):
    __slots__ = ("name", "size_bytes", "mode", "modified_at", "link_target")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_AT_FIELD_NUMBER: _ClassVar[int]
    LINK_TARGET_FIELD_NUMBER: _ClassVar[int]
    name: str
    size_bytes: int
    mode: int
    modified_at: _timestamp_pb2.Timestamp
    link_target: str
    def __init__(self, name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., mode: _Optional[int] = ..., modified_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., link_target: _Optional[str] = ...) -> None: ...

class CopyOutResponse(_message.Message):
    __slots__ = ("stat", "chunk")
    STAT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    stat: PathStat
    chunk: bytes
    def __init__(self, stat: _Optional[_Union[PathStat, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class CopyIntoStart(_message.Message):
    __slots__ = ("container_id", "path", "keep_types", "chown")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    KEEP_TYPES_FIELD_NUMBER: _ClassVar[int]
    CHOWN_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    path: str
    keep_types: bool
    chown: bool
    def __init__(self, container_id: _Optional[str] = ..., path: _Optional[str] = ..., keep_types: bool = ..., chown: bool = ...) -> None: ...

class CopyIntoRequest(_message.Message):
    __slots__ = ("start", "chunk")
    START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    start: CopyIntoStart
    chunk: bytes
    def __init__(self, start: _Optional[_Union[CopyIntoStart, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class CopyIntoResponse(_message.Message):
    __slots__ = ("entries", "bytes")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    entries: int
    bytes: int
    def __init__(self, entries: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...
