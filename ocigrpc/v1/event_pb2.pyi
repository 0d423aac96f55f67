import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from ocigrpc.v1 import container_pb2 as _container_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_CREATED: _ClassVar[EventKind]
    EVENT_KIND_STARTED: _ClassVar[EventKind]
    EVENT_KIND_PAUSED: _ClassVar[EventKind]
    EVENT_KIND_RESUMED: _ClassVar[EventKind]
    EVENT_KIND_UPDATED: _ClassVar[EventKind]
    EVENT_KIND_MONITOR_LOST: _ClassVar[EventKind]
    EVENT_KIND_OOM: _ClassVar[EventKind]
    EVENT_KIND_EXITED: _ClassVar[EventKind]
    EVENT_KIND_REMOVED: _ClassVar[EventKind]
    EVENT_KIND_PULLED: _ClassVar[EventKind]
    EVENT_KIND_TAGGED: _ClassVar[EventKind]
    EVENT_KIND_UNTAGGED: _ClassVar[EventKind]

class ObjectKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OBJECT_KIND_UNSPECIFIED: _ClassVar[ObjectKind]
    OBJECT_KIND_CONTAINER: _ClassVar[ObjectKind]
    OBJECT_KIND_IMAGE: _ClassVar[ObjectKind]
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_CREATED: EventKind
EVENT_KIND_STARTED: EventKind
EVENT_KIND_PAUSED: EventKind
EVENT_KIND_RESUMED: EventKind
EVENT_KIND_UPDATED: EventKind
EVENT_KIND_MONITOR_LOST: EventKind
EVENT_KIND_OOM: EventKind
EVENT_KIND_EXITED: EventKind
EVENT_KIND_REMOVED: EventKind
EVENT_KIND_PULLED: EventKind
EVENT_KIND_TAGGED: EventKind
EVENT_KIND_UNTAGGED: EventKind
OBJECT_KIND_UNSPECIFIED: ObjectKind
OBJECT_KIND_CONTAINER: ObjectKind
OBJECT_KIND_IMAGE: ObjectKind

class ContainerEvent(_message.Message):
    __slots__ = ("sequence", "time", "kind", "container_id", "name", "exit_status", "image_id")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXIT_STATUS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    kind: EventKind
    container_id: str
    name: str
    exit_status: _container_pb2.ExitStatus
    image_id: str
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[_Union[EventKind, str]] = ..., container_id: _Optional[str] = ..., name: _Optional[str] = ..., exit_status: _Optional[_Union[_container_pb2.ExitStatus, _Mapping]] = ..., image_id: _Optional[str] = ...) -> None: ...

class EventFilter(_message.Message):
    __slots__ = ("container_id", "label_selector", "kinds", "objects", "image_id")
    class LabelSelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    label_selector: _containers.ScalarMap[str, str]
    kinds: _containers.RepeatedScalarFieldContainer[EventKind]
    objects: _containers.RepeatedScalarFieldContainer[ObjectKind]
    image_id: str
    def __init__(self, container_id: _Optional[str] = ..., label_selector: _Optional[_Mapping[str, str]] = ..., kinds: _Optional[_Iterable[_Union[EventKind, str]]] = ..., objects: _Optional[_Iterable[_Union[ObjectKind, str]]] = ..., image_id: _Optional[str] = ...) -> None: ...

class EventGap(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("after", "filter")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    after: int
    filter: EventFilter
    def __init__(self, after: _Optional[int] = ..., filter: _Optional[_Union[EventFilter, _Mapping]] = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("cursor", "gap", "events")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    cursor: int
    gap: EventGap
    events: _containers.RepeatedCompositeFieldContainer[ContainerEvent]
    def __init__(self, cursor: _Optional[int] = ..., gap: _Optional[_Union[EventGap, _Mapping]] = ..., events: _Optional[_Iterable[_Union[ContainerEvent, _Mapping]]] = ...) -> None: ...
