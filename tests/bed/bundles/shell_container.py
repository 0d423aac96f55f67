"""Shell scripts in containers of a runtime, which print what a container sees."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

from ocigrpc.oci.spec.build import spec_of
from ocigrpc.oci.spec.config import ContainerConfig
from tests.bed.bundles.bundle import make_rootfs
from tests.bed.hosts.leaks import below

RUNTIMES = ("runc", "crun")

# The id in the specs; the runtime has a name of its own for each container.
CONTAINER_ID = "abcdefghijklmnop"

_TIMEOUT_S = 30
V2_SIDE = Path("/sys/fs/cgroup/unified/cgroup.controllers")
WITHOUT_V2_SIDE = (
    *("unshare", "--mount", "--propagation=unchanged", "sh", "-c"),
    'mount --make-rprivate /sys/fs/cgroup && umount /sys/fs/cgroup/unified && exec "$@"',
    "sh",
)

Ended = subprocess.CompletedProcess[str]


class ShellContainers:
    """Runs scripts in containers of ``runtime``, with a busybox root below ``directory``.

    The root has the account alice, 1001, of the group 1002, and a member of 1003.
    """

    def __init__(self, runtime: str, directory: Path) -> None:
        self._directory = directory
        self._rootfs = make_rootfs(directory)
        self._argv = [runtime, "--root", str(directory / "state")]
        if runtime == "crun" and V2_SIDE.exists() and V2_SIDE.read_text().strip():
            # crun refuses a hybrid host whose v2 side has controllers: hide that side.
            self._argv = [*WITHOUT_V2_SIDE, *self._argv]

    def __call__(self, script: str, **fields: Any) -> Ended:
        """What became of ``script`` in a container of a config with ``fields``."""
        name = f"ocigrpc-spec-{uuid.uuid4().hex}"
        config = ContainerConfig(str(self._rootfs), ("/bin/sh", "-c", script), **fields)
        spec = spec_of(config, container_id=CONTAINER_ID, terminal=False)
        bundle = self._directory / name
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(spec))
        try:
            return self._run("run", "--bundle", str(bundle), name)
        finally:
            self._run("delete", "--force", name).check_returncode()
            assert below(Path("/sys/fs/cgroup"), f"*{name}*") == []
            assert str(bundle) not in Path("/proc/self/mountinfo").read_text()

    def _run(self, *words: str) -> Ended:
        return subprocess.run(
            [*self._argv, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )


def lines_of(ended: Ended) -> list[str]:
    """The lines that a script printed; it must have ended well, without a word of error."""
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()
