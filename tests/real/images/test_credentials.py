"""Credentials of pulls: nobody but their registry sees them, and nothing is left of them."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ocigrpc.errors import OcigrpcError
from ocigrpc.v1.image_pb2 import RegistryAuth
from tests.bed.hosts.leaks import until
from tests.bed.images.faulty_registry import FaultyRegistry, Stall, status
from tests.bed.images.floods import asks_for_a_password, repeating
from tests.bed.images.layers import file
from tests.bed.images.layout import Image, image
from tests.bed.images.pulling import Puller

StartPulling = Callable[..., Puller]

NAME, PASSWORD = "alice", "a-password-of-alice"
SHOWN = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, SHOWN)


@pytest.fixture
def made() -> Image:
    return image([file("a", bytes(range(256)) * 4096)])


@pytest.fixture
def puller(start_pulling: StartPulling) -> Puller:
    """A service that logs all that it can."""
    return start_pulling(log_level="debug", log_calls="all")


def auth_of(name: str, how: str) -> RegistryAuth:
    if how == "auth_json":
        auths = {"auths": {name.partition("/")[0]: {"auth": SHOWN}}}
        return RegistryAuth(auth_json=json.dumps(auths))
    return RegistryAuth(username=NAME, password=PASSWORD)


def traces_in(text: bytes) -> list[str]:
    """The secrets that are in a text."""
    return [secret for secret in SECRETS if secret.encode() in text]


def files_with_secrets(puller: Puller) -> list[Path]:
    """All files of the service that have a secret in them, its log among them."""
    found = []
    for path in puller.service.directory.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and traces_in(path.read_bytes()):
                found.append(path)
    return found


def seen_in_processes() -> Iterator[str]:
    """Where a secret is in the command line or the environment of any process."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            # It may have ended by now.
            with suppress(OSError):
                found = traces_in(Path("/proc", pid, name).read_bytes())
                yield from (f"{each} in {name} of {pid}" for each in found)


def stalled(puller: Puller, registry: FaultyRegistry, made: Image, auth: RegistryAuth) -> object:
    """The answers of a pull that stalls."""
    stall = Stall(after_bytes=1000)
    registry.goes_wrong(stall, made.layers[0].digest)
    registry.goes_wrong(asks_for_a_password, "^/v2/$")
    answers = puller.client.pull_image(registry.push(made, "a"), auth=auth)
    next(answers)
    stall.wait()
    return answers


@pytest.mark.parametrize("how", ["password", "auth_json"])
@pytest.mark.parametrize("end", ["success", "failure", "cancel", "kill"])
def test_credentials_are_in_one_file_for_root_alone_until_their_pull_ends(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, how: str, end: str
) -> None:
    auth = auth_of(faulty_registry.host, how)
    answers = stalled(puller, faulty_registry, made, auth)
    (path,) = files_with_secrets(puller)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(seen_in_processes()) == []
    if end == "kill":
        puller.service.die()
        faulty_registry.goes_well()
        puller.service.start()
    elif end == "cancel":
        answers.close()  # type: ignore[attr-defined]
    else:
        if end == "failure":
            faulty_registry.goes_wrong(status(500), "/blobs/")
        faulty_registry.goes_well()
        with suppress(OcigrpcError):
            list(answers)  # type: ignore[call-overload]
    until(lambda: puller.leaks() == [])
    assert files_with_secrets(puller) == []


@pytest.mark.parametrize("at", ["/manifests/latest", "/manifests/sha256", "/blobs/", "^/v2/$"])
def test_a_registry_that_repeats_credentials_puts_them_into_no_error(
    puller: Puller, faulty_registry: FaultyRegistry, made: Image, at: str
) -> None:
    faulty_registry.goes_wrong(repeating(*SECRETS), at)
    faulty_registry.goes_wrong(asks_for_a_password, "^/v2/$")
    name = faulty_registry.push(made, "a")
    with pytest.raises(OcigrpcError) as raised:
        puller.pull(name, auth=auth_of(name, "password"))
    said = json.dumps([raised.value.message, raised.value.metadata]).encode()
    assert traces_in(said) == []
    assert files_with_secrets(puller) == []
