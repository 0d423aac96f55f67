"""New settings for a service that runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from ocigrpc.cli.daemon.notify import notify
from ocigrpc.cli.daemon.prepare import require_programs, with_container_limit
from ocigrpc.engine.engine import Engine
from ocigrpc.errors import OcigrpcError
from ocigrpc.log import get_logger, set_log_level
from ocigrpc.rpc.server import Server, require_places
from ocigrpc.settings.reload import reload
from ocigrpc.settings.values import Settings

log = get_logger()


class Reloading:
    """Reads the settings again, and has the parts of the service take them over."""

    def __init__(
        self,
        started: Settings,
        load: Callable[[], Settings],
        engine: Engine,
        server: Server,
        inherited: Collection[str],
    ) -> None:
        self._started = started
        self._load = load
        self._engine = engine
        self._server = server
        self._inherited = inherited
        self.settings = started
        """Those in force."""

    def reload(self) -> None:
        """Take over what has changed, or nothing if any of it is wrong; log which."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._reload()
        except OcigrpcError as error:
            known = {"reason": error.reason, "message": error.message}
            log.error("settings.refused", **{**error.metadata, **known})
        except Exception:
            log.error("settings.refused", reason="UNEXPECTED", exc_info=True)
        notify("READY=1")

    def _reload(self) -> None:
        wanted = with_container_limit(self._load())
        require_programs(wanted)
        # So that what waits for a restart does not keep the service from starting then.
        require_places(wanted, self._inherited)
        settings, changed, at_restart = reload(wanted, self.settings, self._started)
        set_log_level(settings.log_level)
        self._engine.reload(settings)
        self._server.reload(settings)
        self.settings = settings
        log.info("settings.reloaded", changed=changed, at_restart=at_restart)
