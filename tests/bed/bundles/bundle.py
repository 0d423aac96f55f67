"""Busybox root filesystems, and OCI bundles around them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ocigrpc.oci.spec.build import spec_of
from ocigrpc.oci.spec.config import ContainerConfig

BUSYBOX = Path("/bin/busybox")


def make_rootfs(directory: Path) -> Path:
    """``directory/rootfs``, made with every applet of busybox.

    It has the account alice, 1001, of the group 1002, and a member of 1003.
    """
    rootfs = directory / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (rootfs / name).mkdir(parents=True)
    busybox = rootfs / "bin/busybox"
    busybox.write_bytes(BUSYBOX.read_bytes())
    busybox.chmod(0o755)
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    for applet in set(listed.stdout.split()) - {"busybox"}:
        (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nalice:x:1001:1002::/:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\nstaff:x:1002:\nplayers:x:1003:bob,alice\n")
    return rootfs


def spec_json(rootfs: Path, command: Sequence[str], *, terminal: bool = False) -> str:
    """An OCI runtime spec that runs ``command`` in ``rootfs``."""
    config = ContainerConfig(str(rootfs), tuple(command))
    return json.dumps(spec_of(config, container_id="bundle", terminal=terminal))


def make_bundle(directory: Path, command: Sequence[str]) -> Path:
    """A bundle at ``directory``, which must not exist, with a root filesystem of its own."""
    directory.mkdir()
    spec = json.loads(spec_json(make_rootfs(directory), command))
    spec["root"]["path"] = "rootfs"
    (directory / "config.json").write_text(json.dumps(spec))
    return directory
