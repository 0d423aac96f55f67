"""What pulls of images need, skopeo and a policy, and what limits of their containers need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ocigrpc.cli.doctor.findings import Finding, Host, fine, warning
from ocigrpc.cli.doctor.places import nearest
from ocigrpc.cli.doctor.programs import broken, known
from ocigrpc.host import quota
from ocigrpc.waiting import Deadline

_LIMIT_S = 10.0
# Where skopeo looks for it; see containers-policy.json(5).
_POLICY = "/etc/containers/policy.json"


def check_images(host: Host) -> Iterator[Finding]:
    """That images can be pulled; containers of root filesystems of the user's own need none."""
    settings, deadline = host.settings.images, Deadline(_LIMIT_S)
    missing = list(broken(settings.skopeo, "images.skopeo", deadline))
    yield from (warning(*each[1:]) for each in missing)
    if not missing:
        yield from known(settings.skopeo, (), deadline)
    policy = Path(settings.policy or _POLICY)
    if policy.is_file():
        yield fine(f"the policy for pulls is {policy}")
    else:
        remedy = "apt-get install golang-github-containers-common, or change images.policy"
        yield warning(f"{policy} is missing, and every pull fails without a policy", remedy)
    # Where root filesystems are, or will be.
    place = nearest(f"{host.settings.root_dir}/rootfs")
    found = quota.support(place)
    if found.limits:
        yield fine(f"{place} has project quotas: what containers write can be limited")
    elif found.counts:
        yield fine(f"{place} has project quotas, but they are not enforced: nothing is limited")
    else:
        yield fine(f"{place} has no project quotas: what containers write can't be limited")
