"""The service config of the contract: which calls any client may repeat by itself."""

from __future__ import annotations

import json

from ocigrpc.contract import contract_file
from ocigrpc.service.images.methods import METHODS as IMAGE_METHODS
from ocigrpc.service.methods import METHODS


def test_only_calls_that_change_nothing_are_repeated() -> None:
    (entry,) = json.loads(contract_file("service_config.json"))["methodConfig"]
    named = [f"{each['service']}/{each['method']}" for each in entry["name"]]
    assert named == list(dict.fromkeys(named))
    rows = (*METHODS, *IMAGE_METHODS)
    assert set(named) == {method.full_name for method in rows if method.is_read_only}


def test_only_a_service_that_is_not_there_makes_them_repeat() -> None:
    (entry,) = json.loads(contract_file("service_config.json"))["methodConfig"]
    assert entry["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
