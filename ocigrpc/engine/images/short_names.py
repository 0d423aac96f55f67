"""What names without a registry mean on this node, by the files of registries.conf(5)."""

from __future__ import annotations

from pathlib import Path

from ocigrpc.errors import HostFailed
from ocigrpc.host.files.regular import read_regular_file
from ocigrpc.oci.images.short_names import ShortNames

# Where registries.conf(5) is, unless the settings say so, and what is read after it.
_REGISTRIES_CONF = "/etc/containers/registries.conf"
_REGISTRIES_CONF_D = Path("/etc/containers/registries.conf.d")


def short_names(registries_conf: str) -> ShortNames:
    """What they mean now; ``registries_conf`` is the setting.

    Raises ``HostFailed`` for a file that can't be used.
    """
    files = [registries_conf or _REGISTRIES_CONF]
    files += map(str, sorted(_REGISTRIES_CONF_D.glob("*.conf")))
    short = ShortNames()
    for path in files:
        try:
            short = short.with_file(read_regular_file(path).decode())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            problem = f"{path} can't be used: {error}"
            raise HostFailed(problem, path=path, error=error) from error
    return short
