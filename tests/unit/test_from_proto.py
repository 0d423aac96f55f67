"""What a request may say, and the value that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from ocigrpc.engine.model.values import BundleSource, ConfigSource, SpecSource
from ocigrpc.errors import InvalidArgument
from ocigrpc.oci.spec import config as values
from ocigrpc.service import from_proto
from ocigrpc.service.from_proto import watch_events_request
from ocigrpc.v1 import config_pb2, event_pb2, exec_pb2
from ocigrpc.v1 import runtime_pb2 as v1

Create = v1.CreateContainerRequest


def create(**fields: object) -> Create:
    """A request that is all right but for ``fields``."""
    request = Create(bundle_path="/b")
    request.MergeFrom(Create(**fields))  # type: ignore[arg-type]
    return request


def wrong(check: Callable[[], object]) -> tuple[str, list[str]]:
    """Reason and fields of the refusal."""
    with pytest.raises(InvalidArgument) as caught:
        check()
    return caught.value.reason, [each.field for each in caught.value.violations]


# Ids and names


@pytest.mark.parametrize("text", ["a", "0", "A.b-c_9", "x" * 64])
def test_id_of_the_right_form_is_taken(text: str) -> None:
    assert from_proto.container_id(v1.PauseContainerRequest(container_id=text)) == text
    assert from_proto.create_request(create(container_id=text, name=text)).name == text


BAD_NAMES = ["..", ".a", "-a", "_a", "a/b", "a\n", "a\0", "a b", "é", "x" * 65, "x" * 4096]


def test_a_name_may_stand_for_the_id() -> None:
    name = "x" * 255
    assert from_proto.container_id(v1.PauseContainerRequest(container_id=name)) == name


@pytest.mark.parametrize("text", ["", "x" * 256, *(each for each in BAD_NAMES if len(each) != 65)])
def test_id_of_another_form_is_refused(text: str) -> None:
    refused = wrong(lambda: from_proto.container_id(v1.PauseContainerRequest(container_id=text)))
    assert refused == ("INVALID_CONTAINER_ID", ["container_id"])


@pytest.mark.parametrize("text", BAD_NAMES)
def test_new_id_and_name_of_another_form_are_refused(text: str) -> None:
    refused = wrong(lambda: from_proto.create_request(create(container_id=text)))
    assert refused == ("INVALID_CONTAINER_ID", ["container_id"])
    # A name may be longer.
    text = text.replace("x" * 65, "x" * 256)
    refused = wrong(lambda: from_proto.create_request(create(name=text)))
    assert refused == ("INVALID_NAME", ["name"])


@given(st.text(alphabet="aZ0_.-/\0\né", max_size=70))
def test_id_that_is_taken_can_be_a_file_name(text: str) -> None:
    try:
        taken = from_proto.create_request(create(container_id=text)).container_id
    except InvalidArgument:
        return
    assert not set(taken) & set("/\0\n")
    assert not taken.startswith(".")
    assert len(taken) <= 64


# Sources


def test_source_is_required() -> None:
    assert wrong(lambda: from_proto.create_request(Create())) == ("REQUIRED", ["source"])


def test_each_source_becomes_its_value() -> None:
    spec = from_proto.create_request(Create(spec_json="{}"))
    bundle = from_proto.create_request(Create(bundle_path="/b"))
    config = from_proto.create_request(Create(config={"rootfs_path": "/r"}))
    assert spec.source == SpecSource("{}")
    assert bundle.source == BundleSource("/b")
    assert config.source == ConfigSource(values.ContainerConfig("/r"))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "REQUIRED"),
        ("b", "PATH_NOT_ABSOLUTE"),
        ("./b", "PATH_NOT_ABSOLUTE"),
        ("/b\0", "NUL_BYTE"),
        ("/" + "b" * 4096, "TOO_LONG"),
    ],
)
def test_bundle_path_that_can_be_none_is_refused(path: str, reason: str) -> None:
    refused = wrong(lambda: from_proto.create_request(Create(bundle_path=path)))
    assert refused == (reason, ["bundle_path"])


def test_config_is_converted_whole() -> None:
    message = config_pb2.ContainerConfig(
        rootfs_path="/r",
        command=["sh"],
        args=["-c", "true"],
        env={"A": "1"},
        working_dir="/w",
        user="1:2",
        supplemental_groups=[3],
        mounts=[
            config_pb2.Mount(
                container_path="/m",
                host_path="/h",
                type="bind",
                readonly=True,
                propagation=config_pb2.MOUNT_PROPAGATION_BIDIRECTIONAL,
                options=["nosuid"],
            )
        ],
        resources=config_pb2.LinuxContainerResources(
            cpu_period=1,
            cpu_quota=-1,
            cpu_shares=2,
            memory_limit_in_bytes=3,
            oom_score_adj=-4,
            cpuset_cpus="0",
            cpuset_mems="1",
            memory_swap_limit_in_bytes=5,
            pids_limit=6,
            unified={"memory.high": "7"},
            cpu_weight=8,
            hugepage_limits=[config_pb2.HugepageLimit(page_size="2MB", limit=9)],
        ),
        add_capabilities=["ALL"],
        drop_capabilities=["CHOWN"],
        no_new_privileges=False,
        seccomp={"type": config_pb2.SECCOMP_TYPE_LOCALHOST, "localhost_ref": "/s"},
        masked_paths={"paths": ["/proc/a"]},
        readonly_paths={},
        readonly_rootfs=True,
        hostname="h",
        sysctls={"a.b": "1"},
        namespaces=[
            config_pb2.Namespace(
                type=config_pb2.NAMESPACE_TYPE_NETWORK,
                mode=config_pb2.NAMESPACE_MODE_PATH,
                path="/n",
            )
        ],
        devices=[config_pb2.Device(container_path="/c", host_path="/d", permissions="r")],
        device_cgroup_rules=[
            {"type": config_pb2.DEVICE_TYPE_BLOCK, "major": 0, "permissions": "r"}
        ],
        rlimits=[config_pb2.Rlimit(type="RLIMIT_CORE", soft=1, hard=2**64 - 1)],
        privileged=True,
        add_ambient_capabilities=["KILL"],
        image="i",
        rootfs_limit_bytes=10,
        user_namespace=config_pb2.UserNamespace(
            uid_mappings=[{"container_id": 0, "host_id": 1, "size": 2}],
            gid_mappings=[{"container_id": 3, "host_id": 4, "size": 5}],
        ),
    )
    assert every_field_is_set(message)
    assert from_proto.create_request(Create(config=message)).source == ConfigSource(
        values.ContainerConfig(
            rootfs_path="/r",
            command=("sh",),
            args=("-c", "true"),
            env={"A": "1"},
            working_dir="/w",
            user="1:2",
            supplemental_groups=(3,),
            mounts=(
                values.Mount(
                    "/m", "/h", "bind", True, values.Propagation.BIDIRECTIONAL, ("nosuid",)
                ),
            ),
            resources=values.Resources(
                *(1, -1, 2, 3, -4, "0", "1", 5, 6, {"memory.high": "7"}, 8),
                hugepage_limits=(values.HugepageLimit("2MB", 9),),
            ),
            add_capabilities=("ALL",),
            drop_capabilities=("CHOWN",),
            no_new_privileges=False,
            seccomp=values.Seccomp(values.SeccompType.LOCALHOST, "/s"),
            masked_paths=("/proc/a",),
            readonly_paths=(),
            readonly_rootfs=True,
            hostname="h",
            sysctls={"a.b": "1"},
            namespaces=(
                values.Namespace(values.NamespaceType.NETWORK, values.NamespaceMode.PATH, "/n"),
            ),
            devices=(values.Device("/d", "/c", "r"),),
            device_cgroup_rules=(
                values.DeviceCgroupRule(values.DeviceType.BLOCK, 0, permissions="r"),
            ),
            rlimits=(values.Rlimit("RLIMIT_CORE", 1, 2**64 - 1),),
            privileged=True,
            image="i",
            rootfs_limit_bytes=10,
            add_ambient_capabilities=("KILL",),
            user_namespace=values.UserNamespace(
                (values.IdMapping(0, 1, 2),), (values.IdMapping(3, 4, 5),)
            ),
        )
    )


def every_field_is_set(message: Message) -> bool:
    """So that the test above has to follow when the contract grows."""
    return len(message.ListFields()) == len(message.DESCRIPTOR.fields)


def test_absent_fields_of_a_config_stay_absent() -> None:
    source = from_proto.create_request(Create(config={"rootfs_path": "/r"})).source
    assert isinstance(source, ConfigSource)
    absent = source.config
    assert absent.no_new_privileges is None
    assert absent.seccomp is None
    assert absent.masked_paths is None
    assert absent.readonly_paths is None


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"mounts": [{}, {"propagation": 9}]}, "config.mounts[1].propagation"),
        ({"seccomp": {"type": 9}}, "config.seccomp.type"),
        ({"device_cgroup_rules": [{"type": 0}]}, "config.device_cgroup_rules[0].type"),
        ({"namespaces": [{"type": 9}]}, "config.namespaces[0].type"),
        ({"namespaces": [{"type": 0}]}, "config.namespaces[0].type"),
        ({"namespaces": [{"type": 1, "mode": 9}]}, "config.namespaces[0].mode"),
    ],
)
def test_number_that_no_enum_has_is_refused(config: dict[str, object], field: str) -> None:
    message = config_pb2.ContainerConfig(**config)  # type: ignore[arg-type]
    refused = wrong(lambda: from_proto.create_request(Create(config=message)))
    assert refused == ("UNKNOWN_ENUM", [field])


# Logs, signals, labels


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("log", "PATH_NOT_ABSOLUTE"),
        ("/a:b/log", "INVALID_LOG_PATH"),
        ("/log\0", "NUL_BYTE"),
    ],
)
def test_log_path_that_conmon_can_not_take_is_refused(path: str, reason: str) -> None:
    refused = wrong(lambda: from_proto.create_request(create(log_path=path)))
    assert refused == (reason, ["log_path"])


def test_negative_log_size_is_refused() -> None:
    refused = wrong(lambda: from_proto.create_request(create(log_size_max_bytes=-1)))
    assert refused == ("OUT_OF_RANGE", ["log_size_max_bytes"])


def test_one_signal_is_one_request_however_it_is_written() -> None:
    made = {
        from_proto.create_request(create(stop_signal=text)).stop_signal
        for text in ("SIGINT", "int", "2")
    }
    assert made == {"2"}


def test_a_policy_that_is_none_is_refused() -> None:
    refused = wrong(lambda: from_proto.create_request(create(monitor_lost_policy=3)))
    assert refused == ("INVALID_POLICY", ["monitor_lost_policy"])


def test_without_a_policy_the_settings_decide() -> None:
    assert from_proto.create_request(create()).monitor_lost_policy is None


def test_wrong_stop_signal_is_refused() -> None:
    refused = wrong(lambda: from_proto.create_request(create(stop_signal="NOPE")))
    assert refused == ("INVALID_SIGNAL", ["stop_signal"])


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"": "x"}, "EMPTY_KEY"),
        ({"a\0": "x"}, "NUL_BYTE"),
        ({"a": "\0"}, "NUL_BYTE"),
        ({"k" * 513: "x"}, "TOO_LONG"),
        ({"a": "v" * (256 << 10)}, "TOO_LONG"),
        ({str(index): "v" * 60_000 for index in range(5)}, "TOO_LONG"),
        ({str(index): "" for index in range(1025)}, "TOO_MANY"),
    ],
    ids=["empty", "nul-key", "nul-value", "long-key", "long-value", "long-in-all", "many"],
)
@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_labels_and_annotations_are_bounded(
    field: str, labels: dict[str, str], reason: str
) -> None:
    found, fields = wrong(lambda: from_proto.create_request(create(**{field: labels})))
    assert found == reason
    assert all(each.startswith(field) for each in fields)


def test_labels_up_to_the_bounds_are_taken() -> None:
    labels = {f"{index:03}": "" for index in range(255)} | {"k" * 512: "v" * 200_000}
    assert from_proto.create_request(create(labels=labels)).labels == labels
    labels["more"] = ""
    refused = wrong(lambda: from_proto.create_request(create(labels=labels)))
    assert refused == ("TOO_MANY", ["labels"])


def test_annotations_up_to_what_kubernetes_allows_are_taken() -> None:
    prefixed = f"{'p' * 253}/{'n' * 63}"
    for wanted in (
        {"a": "v" * ((256 << 10) - 1)},
        {f"{index:04}": "v" * 252 for index in range(1024)},
        {prefixed: "v" * ((256 << 10) - len(prefixed))},
    ):
        assert from_proto.create_request(create(annotations=wanted)).annotations == wanted


@pytest.mark.parametrize("length", [65, 253, 255])
def test_names_as_long_as_those_of_kubernetes_are_taken(length: int) -> None:
    assert from_proto.create_request(create(name="n" * length)).name == "n" * length


def test_a_name_that_is_too_long_is_refused_and_an_id_sooner() -> None:
    refused = wrong(lambda: from_proto.create_request(create(name="n" * 256)))
    assert refused == ("INVALID_NAME", ["name"])
    refused = wrong(lambda: from_proto.create_request(create(container_id="n" * 65)))
    assert refused == ("INVALID_CONTAINER_ID", ["container_id"])


def test_all_wrong_fields_are_reported_at_once() -> None:
    request = Create(container_id="/", name="/", log_path="x", stop_signal="y", labels={"": "z"})
    _, fields = wrong(lambda: from_proto.create_request(request))
    assert fields == ["container_id", "name", "source", "log_path", "labels", "stop_signal"]


# Stop and kill


@pytest.mark.parametrize(
    ("timeout", "timeout_s"),
    [({}, 0.0), ({"seconds": 1, "nanos": 500_000_000}, 1.5), ({"seconds": 86400}, 86400.0)],
)
def test_timeout_of_a_stop_is_in_seconds(timeout: dict[str, int], timeout_s: float) -> None:
    request = v1.StopContainerRequest(container_id="c", timeout=timeout)
    assert from_proto.stop_request(request) == ("c", timeout_s)


def test_absent_timeout_of_a_stop_is_not_zero() -> None:
    assert from_proto.stop_request(v1.StopContainerRequest(container_id="c")) == ("c", None)


@pytest.mark.parametrize(
    "timeout",
    [
        {"seconds": -1},
        {"nanos": -1},
        {"nanos": 1_000_000_000},
        {"seconds": 1, "nanos": -1},
        {"seconds": 86400, "nanos": 1},
        {"seconds": 2**62},
    ],
)
def test_timeout_that_makes_no_sense_is_refused(timeout: dict[str, int]) -> None:
    request = v1.StopContainerRequest(container_id="c", timeout=timeout)
    assert wrong(lambda: from_proto.stop_request(request)) == ("INVALID_TIMEOUT", ["timeout"])
    exec_sync = exec_pb2.ExecSyncRequest(container_id="c", timeout=timeout)
    assert wrong(lambda: from_proto.limit_s(exec_sync.timeout)) == ("INVALID_TIMEOUT", ["timeout"])
    start = exec_pb2.ExecStart(container_id="c", timeout=timeout)
    assert wrong(lambda: from_proto.limit_s(start.timeout)) == ("INVALID_TIMEOUT", ["timeout"])


def test_kill_is_sigkill_unless_it_says_another() -> None:
    assert from_proto.kill_request(v1.KillContainerRequest(container_id="c")) == ("c", 9)
    hangup = v1.KillContainerRequest(container_id="c", signal="HUP")
    assert from_proto.kill_request(hangup) == ("c", 1)


# Filters


@pytest.mark.parametrize("states", [[0], [7], [3, 99]])
def test_state_that_is_none_is_refused_in_a_filter(states: Iterable[int]) -> None:
    message = v1.ContainerFilter(states=states)  # type: ignore[arg-type]
    reason, fields = wrong(
        lambda: from_proto.container_filter(v1.ListContainersRequest(filter=message))
    )
    assert reason == "INVALID_STATE"
    assert len(fields) == 1


@pytest.mark.parametrize("text", ["a\0b", "x" * 257])
def test_impossible_name_is_refused_in_a_filter(text: str) -> None:
    both = v1.ContainerFilter(id_prefix=text, name=text)
    _, fields = wrong(lambda: from_proto.container_filter(v1.ListContainersRequest(filter=both)))
    assert fields == ["filter.id_prefix", "filter.name"]
    watch = event_pb2.WatchEventsRequest(filter=event_pb2.EventFilter(container_id=text))
    _, fields = wrong(lambda: watch_events_request(watch))
    assert fields == ["filter.container_id"]
