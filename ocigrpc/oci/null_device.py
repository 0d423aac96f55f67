"""Keeps the host's ``/dev/null`` root's, which crun gives away when it creates a container.

crun gives a program's standard streams to the program's user. In a user namespace ``/dev/null`` is
the host's own, bound there, and its owner can take it away from everybody by chmod(2):
containers/crun#1845. The container's own program runs only when it is started, but others of the
same users may run already.
"""

from __future__ import annotations

from contextlib import suppress

from msgspec import ValidationError, convert

from ocigrpc.errors import HostFailed
from ocigrpc.host.mappings.null_device import take_null_device_back
from ocigrpc.host.mappings.owners import Owners
from ocigrpc.log import get_logger
from ocigrpc.oci.bundle import Spec, container_spec, table
from ocigrpc.oci.spec.linux_types import SpecIdMapping
from ocigrpc.oci.spec.user_namespace import ranges_of

log = get_logger()


def keep_null_device(spec: Spec) -> None:
    """Have ``/dev/null`` be root's again if users of a container's own have it.

    Raises ``HostFailed``.
    """
    owners = _owners_of(spec)
    if owners is not None and take_null_device_back(owners):
        log.info("null_device.taken_back")


def keep_null_device_from(spec_file: str) -> None:
    """The same for a container of which there may be a spec."""
    with suppress(HostFailed):
        # Without one, no runtime has created it.
        keep_null_device(container_spec(spec_file))


def _owners_of(spec: Spec) -> Owners | None:
    """The users and groups of its user namespace; None if it makes none."""
    linux = table(spec, "linux")
    try:
        uids, gids = (
            ranges_of(convert(linux.get(key) or [], list[SpecIdMapping]))
            for key in ("uidMappings", "gidMappings")
        )
    except ValidationError:
        # No runtime takes such ones.
        return None
    return Owners(uids, gids) if uids and gids else None
