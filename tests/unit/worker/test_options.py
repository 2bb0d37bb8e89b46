"""What a `Worker` can be made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import zlayer_native as zl
from zlayer_native.config.data_dir import default_data_dir
from zlayer_native.errors import ConfigError, ZLayerError
from zlayer_native.worker.options import settings_of
from zlayer_native.worker.state import Phase


def settings(**changes: Any) -> Any:
    given: dict[str, Any] = {
        "servers": ["a:1"],
        "token_file": None,
        "token": None,
        "labels": {},
        "name": None,
        "identity_dir": None,
        "data_dir": None,
        "enrol_secs": None,
        "leave_secs": 5.0,
    }
    return settings_of(**{**given, **changes})


def test_addresses_are_brought_into_one_form_and_counted_once():
    servers = ["https://A.example:3670", "a.example:3670", "http://10.0.0.1:1/", "[::1]:2"]
    assert settings(servers=servers).servers == ("a.example:3670", "10.0.0.1:1", "[::1]:2")


def test_the_identity_is_below_the_data_folder_unless_it_is_set():
    assert settings().identity_dir == default_data_dir() / "worker" / "identity"
    assert settings(data_dir="/d").identity_dir == Path("/d/worker/identity")
    assert settings(data_dir="/d", identity_dir="/i").identity_dir == Path("/i")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"servers": []}, "servers: is empty"),
        ({"servers": "a:1"}, "is one text"),
        ({"servers": ["a"]}, "'a': the port is missing"),
        ({"servers": ["0.0.0.0:1"]}, "can't be dialled"),
        ({"token": "t", "token_file": "f"}, "expected one of the two"),
        ({"name": "Not A Name"}, "name: 'Not A Name'"),
        ({"labels": {"Gpu": "a100"}}, "'Gpu'='a100'"),
        ({"labels": {"gpu": "A100!"}}, "'gpu'='A100!'"),
        ({"labels": {"gpu": 1}}, "'gpu'=1"),
        ({"labels": {"zlayer.io/x": "y"}}, "for the cluster's own"),
        ({"labels": {f"k{n}": "v" for n in range(33)}}, "at most 32"),
    ],
)
def test_what_can_t_be_used_is_named(changes: dict[str, Any], told: str):
    with pytest.raises(ConfigError) as refused:
        settings(**changes)
    assert told in str(refused.value)
    assert len(refused.value.problems) == 1


def test_every_problem_is_in_one_error():
    with pytest.raises(ConfigError) as refused:
        settings(servers=["a", "b:0"], name="!", labels={"!": "x"})
    assert len(refused.value.problems) == 4


def test_a_worker_that_was_not_started_says_so(tmp_path: Path):
    worker = zl.Worker(servers=["a:1"], labels={"zone": "a"}, data_dir=tmp_path)
    assert worker.state().phase is Phase.STOPPED
    assert (worker.node_id, worker.labels) == (None, {"zone": "a"})
    worker.stop()
    with pytest.raises(ZLayerError, match="not started"):
        worker.wait_ready(0)


def test_a_start_without_identity_and_token_raises_and_may_be_repeated(tmp_path: Path):
    worker = zl.Worker(servers=["a:1"], data_dir=tmp_path)
    for _ in range(2):
        with pytest.raises(ConfigError, match="no token"):
            worker.start()
    assert worker.state().phase is Phase.STOPPED
    assert "no token" in str(worker.state().last_error)


async def test_so_does_one_in_a_coroutine(tmp_path: Path):
    worker = zl.Worker(servers=["a:1"], data_dir=tmp_path)
    for _ in range(2):
        with pytest.raises(ConfigError, match="no token"):
            await worker.start_async()


def test_a_token_in_no_right_form_is_refused_before_anything_is_sent(tmp_path: Path):
    worker = zl.Worker(servers=["127.0.0.1:1"], token="not-a-token", data_dir=tmp_path)
    with pytest.raises(ZLayerError, match="token"):
        worker.start()
