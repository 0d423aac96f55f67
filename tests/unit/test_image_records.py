"""What the service itself remembers of images."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ocigrpc.engine.images.records import ImageRecords
from ocigrpc.engine.model.image_records import ImageRecord
from ocigrpc.engine.store.store import Store

ID = "a" * 64
DIGESTS = [f"sha256:{letter * 64}" for letter in "bc"]


def test_of_names_that_an_image_has_lost_nothing_is_kept(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "ocigrpc.db", 1000)) as store:
        records = ImageRecords(store)
        records.pulled(ID, {"r.io/kept:1": DIGESTS[0]}, (), ())
        for number in range(100):
            had = ("r.io/kept:1", "r.io/tagged:1")
            records.pulled(ID, {f"r.io/moved:{number}": DIGESTS[1]}, (), had)
        digests = {"r.io/kept:1": DIGESTS[0], "r.io/moved:99": DIGESTS[1]}
        record = records.get(ID)
        assert record is not None
        assert record.digests == digests
    with closing(Store(tmp_path / "ocigrpc.db", 1000)) as store:
        assert [each.digests for each in store.records(ImageRecord)] == [digests]
