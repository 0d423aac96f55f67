"""Specs and bundles that a runtime takes alone: taken by the service, and the same in it."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ocigrpc.oci.bundle import bundle_spec
from ocigrpc.v1 import config_pb2
from ocigrpc.v1.runtime_pb2 import CreateContainerRequest
from tests.bed.bundles import specs
from tests.bed.bundles.bundle import make_rootfs
from tests.bed.clients.refusal import refused
from tests.bed.hosts.leaks import LIMIT_S
from tests.bed.services.service import Service


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle without a spec: a root filesystem, and a directory ``data``."""
    bundle = tmp_path_factory.mktemp("bundle")
    rootfs = make_rootfs(bundle)
    (rootfs / "data").mkdir()
    (bundle / "data").mkdir()
    (bundle / "data/file").touch()
    return bundle


@pytest.fixture
def of_form(bundle: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The bundle with the spec of a form."""
    (bundle / "config.json").write_text(specs.text_of(request.param), errors="surrogatepass")
    yield bundle
    (bundle / "config.json").unlink()


def run_alone(bundle: Path) -> list[str]:
    """What the program of a bundle writes when runc runs it by itself."""
    name = f"ocigrpc-alone-{uuid.uuid4().hex}"
    ended = subprocess.run(
        ["runc", "--root", str(bundle / "state"), "run", "--bundle", str(bundle), name],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    shutil.rmtree(bundle / "state")
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def run_by_service(service: Service, request: CreateContainerRequest) -> Sequence[str]:
    container_id = service.client.create_container(request).container_id
    service.start_container(container_id)
    assert service.wait(container_id).exit_code == 0, service.output(container_id, "stderr")
    output = service.output(container_id)
    service.remove(container_id)
    return output


@pytest.mark.parametrize("of_form", specs.FORMS, indirect=True)
def test_every_form_of_a_spec_is_taken(of_form: Path) -> None:
    assert bundle_spec(str(of_form))


@pytest.mark.parametrize(
    "of_form", [each for each in specs.FORMS if each not in specs.NOT_RUN], indirect=True
)
def test_a_spec_means_the_same_as_to_runc_alone(service: Service, of_form: Path) -> None:
    alone = run_alone(of_form)
    request = CreateContainerRequest(bundle_path=str(of_form))
    assert run_by_service(service, request) == alone


@pytest.mark.parametrize("of_form", ["any-case", "twice", "nulls", "zeros", "least"], indirect=True)
def test_what_only_gos_decoder_takes_is_taken_with_crun_as_well(
    any_service: Service, of_form: Path
) -> None:
    request = CreateContainerRequest(bundle_path=str(of_form))
    assert run_by_service(any_service, request)


@pytest.mark.parametrize(
    "text", ["", "null", "{}", '{"process": {"args": ["sh"], "cwd": "/", "oomScoreAdj": 1e2}}']
)
def test_what_go_refuses_is_refused(service: Service, text: str) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_SPEC") as refusal:
        run_by_service(service, CreateContainerRequest(spec_json=text))
    assert refusal.fields == ["spec_json"]


@pytest.mark.parametrize("name", ["vm/swappiness", "kernel.panic", "net//x"])
def test_a_kernel_parameter_of_the_host_is_refused(service: Service, name: str) -> None:
    config = service.config("true")
    config.sysctls[name] = "1"
    with refused("INVALID_ARGUMENT", "SYSCTL_NOT_NAMESPACED"):
        run_by_service(service, CreateContainerRequest(config=config))


@pytest.mark.parametrize(
    "name", ["net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"]
)
def test_a_kernel_parameter_of_a_vlan_is_put_to_the_runtime(
    any_service: Service, name: str
) -> None:
    config = any_service.config("true")
    config.sysctls[name] = "1"
    # Which has it nowhere, here; and no runtime so far would find it.
    with refused("FAILED_PRECONDITION", "SYSCTL_REFUSED") as refusal:
        run_by_service(any_service, CreateContainerRequest(config=config))
    assert "eth0/100" in refusal.message


@pytest.mark.parametrize("name", ["net/ipv4/ip_forward", "net.ipv4.ip_forward"])
def test_a_kernel_parameter_may_be_named_with_slashes(any_service: Service, name: str) -> None:
    config = any_service.config("cat /proc/sys/net/ipv4/ip_forward; cat /proc/sys/kernel/shmmni")
    config.sysctls.update({name: "1", "kernel/shmmni": "4095"})
    config.namespaces.add(type=config_pb2.NAMESPACE_TYPE_IPC)
    assert run_by_service(any_service, CreateContainerRequest(config=config)) == ["1", "4095"]
