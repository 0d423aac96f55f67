import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LayerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAYER_STATE_UNSPECIFIED: _ClassVar[LayerState]
    LAYER_STATE_WAITING: _ClassVar[LayerState]
    LAYER_STATE_RECEIVING: _ClassVar[LayerState]
    LAYER_STATE_UNPACKING: _ClassVar[LayerState]
    LAYER_STATE_STORED: _ClassVar[LayerState]
    LAYER_STATE_PRESENT: _ClassVar[LayerState]

class ArchiveFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ARCHIVE_FORMAT_UNSPECIFIED: _ClassVar[ArchiveFormat]
    ARCHIVE_FORMAT_DOCKER: _ClassVar[ArchiveFormat]
    ARCHIVE_FORMAT_OCI: _ClassVar[ArchiveFormat]
LAYER_STATE_UNSPECIFIED: LayerState
LAYER_STATE_WAITING: LayerState
LAYER_STATE_RECEIVING: LayerState
LAYER_STATE_UNPACKING: LayerState
LAYER_STATE_STORED: LayerState
LAYER_STATE_PRESENT: LayerState
ARCHIVE_FORMAT_UNSPECIFIED: ArchiveFormat
ARCHIVE_FORMAT_DOCKER: ArchiveFormat
ARCHIVE_FORMAT_OCI: ArchiveFormat

class Platform(_message.Message):
    __slots__ = ("os", "architecture", "variant")
    OS_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    os: str
    architecture: str
    variant: str
    def __init__(self, os: _Optional[str] = ..., architecture: _Optional[str] = ..., variant: _Optional[str] = ...) -> None: ...

class RegistryAuth(_message.Message):
    __slots__ = ("username", "password", "identity_token", "auth_json")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AUTH_JSON_FIELD_NUMBER: _ClassVar[int]
    username: str
    password: str
    identity_token: str
    auth_json: str
    def __init__(self, username: _Optional[str] = ..., password: _Optional[str] = ..., identity_token: _Optional[str] = ..., auth_json: _Optional[str] = ...) -> None: ...

class PullImageRequest(_message.Message):
    __slots__ = ("image", "platform", "auth", "name", "only_if_missing")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ONLY_IF_MISSING_FIELD_NUMBER: _ClassVar[int]
    image: str
    platform: Platform
    auth: RegistryAuth
    name: str
    only_if_missing: bool
    def __init__(self, image: _Optional[str] = ..., platform: _Optional[_Union[Platform, _Mapping]] = ..., auth: _Optional[_Union[RegistryAuth, _Mapping]] = ..., name: _Optional[str] = ..., only_if_missing: bool = ...) -> None: ...

class LayerProgress(_message.Message):
    __slots__ = ("digest", "size_bytes", "received_bytes", "state")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size_bytes: int
    received_bytes: int
    state: LayerState
    def __init__(self, digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., received_bytes: _Optional[int] = ..., state: _Optional[_Union[LayerState, str]] = ...) -> None: ...

class PullProgress(_message.Message):
    __slots__ = ("digest", "total_bytes", "received_bytes", "layers")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    digest: str
    total_bytes: int
    received_bytes: int
    layers: _containers.RepeatedCompositeFieldContainer[LayerProgress]
    def __init__(self, digest: _Optional[str] = ..., total_bytes: _Optional[int] = ..., received_bytes: _Optional[int] = ..., layers: _Optional[_Iterable[_Union[LayerProgress, _Mapping]]] = ...) -> None: ...

class PullImageResponse(_message.Message):
    __slots__ = ("progress", "image")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    progress: PullProgress
    image: ImageSummary
    def __init__(self, progress: _Optional[_Union[PullProgress, _Mapping]] = ..., image: _Optional[_Union[ImageSummary, _Mapping]] = ...) -> None: ...

class ImageSummary(_message.Message):
    __slots__ = ("image_id", "names", "digests", "created_at", "pulled_at", "size_bytes", "unique_bytes", "labels", "platform", "containers", "pinned", "user", "dangling")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    PULLED_AT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    UNIQUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    DANGLING_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    names: _containers.RepeatedScalarFieldContainer[str]
    digests: _containers.RepeatedScalarFieldContainer[str]
    created_at: _timestamp_pb2.Timestamp
    pulled_at: _timestamp_pb2.Timestamp
    size_bytes: int
    unique_bytes: int
    labels: _containers.ScalarMap[str, str]
    platform: Platform
    containers: int
    pinned: bool
    user: str
    dangling: bool
    def __init__(self, image_id: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., digests: _Optional[_Iterable[str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pulled_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., size_bytes: _Optional[int] = ..., unique_bytes: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., platform: _Optional[_Union[Platform, _Mapping]] = ..., containers: _Optional[int] = ..., pinned: bool = ..., user: _Optional[str] = ..., dangling: bool = ...) -> None: ...

class ImageFilter(_message.Message):
    __slots__ = ("reference", "label_selector", "dangling", "unused")
    class LabelSelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    DANGLING_FIELD_NUMBER: _ClassVar[int]
    UNUSED_FIELD_NUMBER: _ClassVar[int]
    reference: str
    label_selector: _containers.ScalarMap[str, str]
    dangling: bool
    unused: bool
    def __init__(self, reference: _Optional[str] = ..., label_selector: _Optional[_Mapping[str, str]] = ..., dangling: bool = ..., unused: bool = ...) -> None: ...

class ListImagesRequest(_message.Message):
    __slots__ = ("filter", "page_size", "page_token")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    filter: ImageFilter
    page_size: int
    page_token: str
    def __init__(self, filter: _Optional[_Union[ImageFilter, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListImagesResponse(_message.Message):
    __slots__ = ("images", "next_page_token")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageSummary]
    next_page_token: str
    def __init__(self, images: _Optional[_Iterable[_Union[ImageSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ImageStatusRequest(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: str
    def __init__(self, image: _Optional[str] = ...) -> None: ...

class ImageConfig(_message.Message):
    __slots__ = ("entrypoint", "cmd", "env", "working_dir", "user", "stop_signal", "volumes", "exposed_ports", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENTRYPOINT_FIELD_NUMBER: _ClassVar[int]
    CMD_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIR_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    STOP_SIGNAL_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    EXPOSED_PORTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    entrypoint: _containers.RepeatedScalarFieldContainer[str]
    cmd: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.RepeatedScalarFieldContainer[str]
    working_dir: str
    user: str
    stop_signal: str
    volumes: _containers.RepeatedScalarFieldContainer[str]
    exposed_ports: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, entrypoint: _Optional[_Iterable[str]] = ..., cmd: _Optional[_Iterable[str]] = ..., env: _Optional[_Iterable[str]] = ..., working_dir: _Optional[str] = ..., user: _Optional[str] = ..., stop_signal: _Optional[str] = ..., volumes: _Optional[_Iterable[str]] = ..., exposed_ports: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ImageLayer(_message.Message):
    __slots__ = ("diff_id", "digest", "size_bytes", "images", "path")
    DIFF_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    diff_id: str
    digest: str
    size_bytes: int
    images: int
    path: str
    def __init__(self, diff_id: _Optional[str] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., images: _Optional[int] = ..., path: _Optional[str] = ...) -> None: ...

class ImageHistory(_message.Message):
    __slots__ = ("created_at", "created_by", "comment", "empty_layer")
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    EMPTY_LAYER_FIELD_NUMBER: _ClassVar[int]
    created_at: _timestamp_pb2.Timestamp
    created_by: str
    comment: str
    empty_layer: bool
    def __init__(self, created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_by: _Optional[str] = ..., comment: _Optional[str] = ..., empty_layer: bool = ...) -> None: ...

class ImageStatusResponse(_message.Message):
    __slots__ = ("image", "config", "layers", "history", "author", "container_ids", "last_used_at")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_IDS_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_AT_FIELD_NUMBER: _ClassVar[int]
    image: ImageSummary
    config: ImageConfig
    layers: _containers.RepeatedCompositeFieldContainer[ImageLayer]
    history: _containers.RepeatedCompositeFieldContainer[ImageHistory]
    author: str
    container_ids: _containers.RepeatedScalarFieldContainer[str]
    last_used_at: _timestamp_pb2.Timestamp
    def __init__(self, image: _Optional[_Union[ImageSummary, _Mapping]] = ..., config: _Optional[_Union[ImageConfig, _Mapping]] = ..., layers: _Optional[_Iterable[_Union[ImageLayer, _Mapping]]] = ..., history: _Optional[_Iterable[_Union[ImageHistory, _Mapping]]] = ..., author: _Optional[str] = ..., container_ids: _Optional[_Iterable[str]] = ..., last_used_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RemoveImageRequest(_message.Message):
    __slots__ = ("image", "all_names")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ALL_NAMES_FIELD_NUMBER: _ClassVar[int]
    image: str
    all_names: bool
    def __init__(self, image: _Optional[str] = ..., all_names: bool = ...) -> None: ...

class RemoveImageResponse(_message.Message):
    __slots__ = ("untagged", "image_id", "container_ids")
    UNTAGGED_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_IDS_FIELD_NUMBER: _ClassVar[int]
    untagged: _containers.RepeatedScalarFieldContainer[str]
    image_id: str
    container_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, untagged: _Optional[_Iterable[str]] = ..., image_id: _Optional[str] = ..., container_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class TagImageRequest(_message.Message):
    __slots__ = ("image", "name")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    image: str
    name: str
    def __init__(self, image: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class TagImageResponse(_message.Message):
    __slots__ = ("name", "from_image_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FROM_IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    from_image_id: str
    def __init__(self, name: _Optional[str] = ..., from_image_id: _Optional[str] = ...) -> None: ...

class PruneImagesRequest(_message.Message):
    __slots__ = ("all", "older_than", "until_free_bytes", "label_selector", "dry_run")
    class LabelSelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ALL_FIELD_NUMBER: _ClassVar[int]
    OLDER_THAN_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LABEL_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    all: bool
    older_than: _duration_pb2.Duration
    until_free_bytes: int
    label_selector: _containers.ScalarMap[str, str]
    dry_run: bool
    def __init__(self, all: bool = ..., older_than: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., until_free_bytes: _Optional[int] = ..., label_selector: _Optional[_Mapping[str, str]] = ..., dry_run: bool = ...) -> None: ...

class PruneImagesResponse(_message.Message):
    __slots__ = ("images", "reclaimed_bytes")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    RECLAIMED_BYTES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageSummary]
    reclaimed_bytes: int
    def __init__(self, images: _Optional[_Iterable[_Union[ImageSummary, _Mapping]]] = ..., reclaimed_bytes: _Optional[int] = ...) -> None: ...

class ImageFsInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FsUsage(_message.Message):
    __slots__ = ("bytes", "inodes")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    INODES_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    inodes: int
    def __init__(self, bytes: _Optional[int] = ..., inodes: _Optional[int] = ...) -> None: ...

class WritableLayer(_message.Message):
    __slots__ = ("container_id", "used", "measured_at", "limit_bytes")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    MEASURED_AT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    used: FsUsage
    measured_at: _timestamp_pb2.Timestamp
    limit_bytes: int
    def __init__(self, container_id: _Optional[str] = ..., used: _Optional[_Union[FsUsage, _Mapping]] = ..., measured_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., limit_bytes: _Optional[int] = ...) -> None: ...

class ImageFsInfoResponse(_message.Message):
    __slots__ = ("path", "total", "available", "image_bytes", "reclaimable_bytes", "image_count", "writable_layers")
    PATH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECLAIMABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    WRITABLE_LAYERS_FIELD_NUMBER: _ClassVar[int]
    path: str
    total: FsUsage
    available: FsUsage
    image_bytes: int
    reclaimable_bytes: int
    image_count: int
    writable_layers: _containers.RepeatedCompositeFieldContainer[WritableLayer]
    def __init__(self, path: _Optional[str] = ..., total: _Optional[_Union[FsUsage, _Mapping]] = ..., available: _Optional[_Union[FsUsage, _Mapping]] = ..., image_bytes: _Optional[int] = ..., reclaimable_bytes: _Optional[int] = ..., image_count: _Optional[int] = ..., writable_layers: _Optional[_Iterable[_Union[WritableLayer, _Mapping]]] = ...) -> None: ...

class SaveImageRequest(_message.Message):
    __slots__ = ("image", "format")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    image: str
    format: ArchiveFormat
    def __init__(self, image: _Optional[str] = ..., format: _Optional[_Union[ArchiveFormat, str]] = ...) -> None: ...

class SaveImageResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class LoadImageRequest(_message.Message):
    __slots__ = ("name", "chunk")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    name: str
    chunk: bytes
    def __init__(self, name: _Optional[str] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class LoadImageResponse(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageSummary]
    def __init__(self, images: _Optional[_Iterable[_Union[ImageSummary, _Mapping]]] = ...) -> None: ...
