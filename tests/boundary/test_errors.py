"""Errors cross processes and threads whole."""

from __future__ import annotations

import copy
import inspect
import pickle
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from zlayer_native import LeaseTable, errors
from zlayer_native.errors import StaleLease, ZLayerError

CLASSES = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, ZLayerError)
]

#: What the classes have beside a message.
FIELDS: dict[str, Any] = {
    "problems": ("a", "b"),
    "code": "some_code",
    "retryable": True,
    "leader_id": 2,
    "handle": 2**63 + 5,
    "status": 409,
    "hint": "do that",
}


def made(kind: type[ZLayerError]) -> ZLayerError:
    """An error with every field that its class takes."""
    takes = inspect.signature(kind.__init__).parameters
    return kind("what, where, the way out", **{k: v for k, v in FIELDS.items() if k in takes})


def same(first: ZLayerError, second: ZLayerError) -> bool:
    return (type(first), first.args, vars(first), str(first)) == (
        type(second),
        second.args,
        vars(second),
        str(second),
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_pickle_and_copy(kind: type[ZLayerError]) -> None:
    error = made(kind)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert same(pickle.loads(pickle.dumps(error, protocol)), error)
    assert same(copy.copy(error), error)
    assert same(copy.deepcopy(error), error)
    assert str(error) == "what, where, the way out"


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_is_caught_as_ours_and_named_as_public(kind: type[ZLayerError]) -> None:
    assert issubclass(kind, ZLayerError)
    assert kind.__module__ == "zlayer_native.errors"
    with pytest.raises(ZLayerError):
        raise made(kind)
    assert "zlayer_native.errors." in "".join(traceback.format_exception_only(made(kind)))


def fail_in_the_core() -> None:
    table = LeaseTable()
    handle = table.grant(now_ms=0, window_ms=1)
    table.revoke(handle)
    table.renew(handle, now_ms=0, window_ms=1)


def test_an_error_of_the_core_comes_back_from_another_process() -> None:
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(StaleLease) as failed,
    ):
        pool.submit(fail_in_the_core).result()
    assert isinstance(failed.value.handle, int)
    with pytest.raises(StaleLease) as here:
        fail_in_the_core()
    assert same(failed.value, here.value)
