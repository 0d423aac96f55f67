"""``ocigrpc serve``: the service, from its settings to its end."""

from __future__ import annotations

import os
from collections.abc import Callable

from ocigrpc.cli.notify import notify
from ocigrpc.cli.prepare import prepare, with_container_limit
from ocigrpc.cli.termination import termination
from ocigrpc.engine.engine import Engine
from ocigrpc.errors import OcigrpcError
from ocigrpc.host.descriptors import raise_limit
from ocigrpc.host.files.directory import locked
from ocigrpc.host.libc import give_back_large_blocks
from ocigrpc.log import configure_logging, get_logger
from ocigrpc.rpc.server import serving
from ocigrpc.service.runtime import runtime_service
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline

log = get_logger()

# How long conmon, the runtime and systemd may take to prove that they work.
_START_TIMEOUT_S = 30.0


def serve(settings: Settings) -> bool:
    """Serve until a signal asks for the end, then let running calls finish; containers live on.

    False, and one line in the log with the reason, if the service could not start or failed.
    Calls that do not end in time, not even after they are undone, end with the process, whose
    status is 1 then; the next start recovers from what they left.
    """
    configure_logging(settings.log_level, settings.log_format)
    give_back_large_blocks()
    try:
        with termination() as wait_for_end:
            raise_limit()
            settings = with_container_limit(settings)
            prepare(settings)
            # Before anything in the store or in the directories of containers is changed.
            with locked(settings.root_dir), locked(settings.run_dir):
                drained = _serve_until(wait_for_end, settings)
    except OcigrpcError as error:
        known = {"reason": error.reason, "message": error.message}
        log.critical("service.failed", **{**error.metadata, **known})
        return False
    except Exception:
        log.critical("service.failed", reason="UNEXPECTED", exc_info=True)
        return False
    log.info("service.ended", drained=drained)
    if not drained:
        # Otherwise the interpreter waits for the threads of the calls that did not end.
        os._exit(1)
    return True


def _serve_until(wait_for_end: Callable[[], str], settings: Settings) -> bool:
    """Whether every call had ended when the service did."""
    drain_s = settings.timeouts.drain_s
    with Engine.open(settings) as engine:
        engine.require_working(Deadline(_START_TIMEOUT_S))
        with serving([runtime_service(engine)], settings) as server:
            engine.recover()
            server.open()
            log.info("service.ready", addresses=server.addresses)
            notify("READY=1")
            signal_name = wait_for_end()
            log.info("service.ending", signal=signal_name, drain_timeout_s=drain_s)
            notify("STOPPING=1")
            return server.drain(drain_s)
