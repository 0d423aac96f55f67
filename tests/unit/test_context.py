"""What all containers share, while it is another."""

from __future__ import annotations

from ocigrpc.engine.containers.context import Context
from ocigrpc.host.cgroups.hierarchy import Hierarchies
from ocigrpc.settings.values import RuntimeHandler, Settings


class Watched(Context):
    """One that is looked at after each of its steps."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        # The last one of the first settings.
        if hasattr(self, "_run_dir"):
            assert self.runtimes.keys() == self.settings.runtimes.keys()


def test_at_no_time_is_a_runtime_known_without_its_settings() -> None:
    context = Watched(Settings(), Hierarchies.detect())
    added = Settings().runtimes | {"youki": RuntimeHandler(path="youki")}
    context.reload(Settings(runtimes=added, default_runtime="youki"))
    assert "youki" in context.runtimes
