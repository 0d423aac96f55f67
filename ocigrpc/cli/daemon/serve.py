"""``ocigrpc serve``: the service, from its settings to its end."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ocigrpc.cli.daemon.dump import dump, dump_threads
from ocigrpc.cli.daemon.health import followed_health
from ocigrpc.cli.daemon.liveness import watched
from ocigrpc.cli.daemon.notify import notify
from ocigrpc.cli.daemon.prepare import prepare, with_container_limit
from ocigrpc.cli.daemon.reload import Reloading
from ocigrpc.cli.daemon.signals import Signals, handled_signals
from ocigrpc.cli.daemon.traces import open_traces
from ocigrpc.cli.failures import EXIT_FAILED, EXIT_USAGE
from ocigrpc.engine.engine import Engine
from ocigrpc.errors import InvalidSettings, OcigrpcError
from ocigrpc.host.descriptors import raise_limit
from ocigrpc.host.files.directory import locked
from ocigrpc.host.libc import give_back_large_blocks
from ocigrpc.log import configure_logging, get_logger
from ocigrpc.metrics import Source
from ocigrpc.rpc.handover.inherited import inherited_sockets
from ocigrpc.rpc.server import serving
from ocigrpc.service.images.handlers import image_service
from ocigrpc.service.runtime import runtime_service
from ocigrpc.settings.values import Settings
from ocigrpc.waiting import Deadline

log = get_logger()

# How long conmon, the runtime and systemd may take to prove that they work.
_START_TIMEOUT_S = 30.0


def serve(settings: Settings, load: Callable[[], Settings]) -> int:
    """Serve until a signal asks for the end, then let running calls finish; containers live on.

    ``load`` reads the settings again, when SIGHUP asks for that.

    Returns the exit status: if the service could not start or failed, one line in the log has the
    reason, and it is 2 when the settings are wrong, which a restart does not correct, or else 1.
    Calls that do not end in time, not even after they are undone, end with the process, whose
    status is 1 then; the next start recovers from what they left.
    """
    configure_logging(settings.log_level, settings.log_format)
    give_back_large_blocks()
    # When the init system aborts a service that hangs, the log shows where.
    faulthandler.enable()
    try:
        with handled_signals() as signals:
            signals.on(signal.SIGUSR1, dump_threads)
            # Until it is ready: settings may have changed since they were read.
            signals.keep(signal.SIGHUP)
            raise_limit()
            settings = with_container_limit(settings)
            prepare(settings)
            # Before anything in the store or in the directories of containers is changed.
            with locked(settings.root_dir), locked(settings.run_dir):
                drained = _serve_until_end(signals, settings, load)
    except OcigrpcError as error:
        known = {"reason": error.reason, "message": error.message}
        log.critical("service.failed", **{**error.metadata, **known})
        return EXIT_USAGE if isinstance(error, InvalidSettings) else EXIT_FAILED
    except Exception:
        log.critical("service.failed", reason="UNEXPECTED", exc_info=True)
        return EXIT_FAILED
    log.info("service.ended", drained=drained)
    if not drained:
        # Otherwise the interpreter waits for the threads of the calls that did not end.
        os._exit(EXIT_FAILED)
    return 0


def _serve_until_end(signals: Signals, settings: Settings, load: Callable[[], Settings]) -> bool:
    """Whether every call had ended when the service did."""
    with (
        inherited_sockets() as inherited,
        open_traces(settings.traces.endpoint),
        Engine.open(settings) as engine,
    ):
        engine.require_working(Deadline(_START_TIMEOUT_S))
        services = [runtime_service(engine), image_service(engine.images)]
        with (
            serving(services, settings, inherited) as server,
            _metrics_page(settings, engine.readings, server.readings),
        ):
            signals.on(signal.SIGUSR1, lambda: dump(engine, server))
            notify("STATUS=Finding containers again")
            engine.recover()
            server.open()
            reloading = Reloading(settings, load, engine, server, inherited)
            log.info("service.ready", addresses=server.addresses)
            notify("READY=1\nSTATUS=Ready")
            signals.on(signal.SIGHUP, reloading.reload)
            with (
                followed_health(server, engine.require_serving),
                watched(server.own_address, engine.states),
            ):
                signal_name = signals.wait_for_end()
            drain_s = reloading.settings.timeouts.drain_s
            log.info("service.ending", signal=signal_name, drain_timeout_s=drain_s)
            notify(f"STOPPING=1\nSTATUS=Ending: calls have {drain_s:g} seconds to finish")
            return server.drain(drain_s)


@contextmanager
def _metrics_page(settings: Settings, *sources: Source) -> Iterator[None]:
    """Serve metrics in a ``with``, if the settings ask for it."""
    if not settings.metrics.address:
        yield
        return
    # Imported now, since it loads an HTTP server.
    from ocigrpc.cli.daemon.metrics_page import open_metrics_page

    with open_metrics_page(settings.metrics, *sources):
        yield
