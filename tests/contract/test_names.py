"""Stable names: what the Rust source defines, what is written down, what Python maps."""

from __future__ import annotations

import grpc
import pytest

from tests.contract.golden import load, rust_names
from zlayer_native._bridge.server import _error
from zlayer_native.api import nodes
from zlayer_native.api.problem import problem_of
from zlayer_native.enroll.answers import answer_for
from zlayer_native.errors import REFUSALS, CoreStopped, Overloaded, Refused

NAMES = load("names")
COMMAND, RECORD = "zlayer-core/src/command.rs", "zlayer-core/src/record.rs"

#: Refusals of commands that no machine causes by joining.
OPERATORS_ONLY = {
    "token_exists",
    "token_not_found",
    "server_not_found",
    "revision_mismatch",
    "lock_held",
}


@pytest.mark.parametrize(
    ("path", "enum", "names"),
    [
        (COMMAND, "Refusal", "refusals"),
        (COMMAND, "Command", "commands"),
        (RECORD, "EventKind", "events"),
        (RECORD, "Reason", "reasons"),
    ],
)
def test_rust_has_the_names_that_are_written_down(path: str, enum: str, names: str) -> None:
    assert rust_names(path, enum) == NAMES[names]


def test_states_are_livenesses_and_draining() -> None:
    livenesses = [name.capitalize() for name in rust_names(RECORD, "Liveness")]
    assert set(NAMES["states"]) == {*livenesses, "Draining"}
    assert list(nodes.STATES) == NAMES["states"]


def test_every_refusal_has_a_class_of_its_own() -> None:
    assert list(REFUSALS) == NAMES["refusals"]
    assert len(set(REFUSALS.values())) == len(REFUSALS)
    assert all(kind is not Refused and issubclass(kind, Refused) for kind in REFUSALS.values())
    direct = {kind for kind in Refused.__subclasses__() if kind.__module__ == Refused.__module__}
    assert set(REFUSALS.values()) == direct


@pytest.mark.parametrize("code", NAMES["refusals"])
def test_a_refusal_crosses_as_its_class(code: str) -> None:
    error = _error({"code": code, "message": "why", "jti": "x"})
    assert type(error) is REFUSALS[code]
    assert isinstance(error, Refused)
    assert (str(error), error.code) == ("why", code)


def test_other_failures_cross_as_theirs_and_an_unknown_one_as_a_refusal() -> None:
    assert type(_error({"code": "overloaded", "message": "x"})) is Overloaded
    assert type(_error({"code": "stopped", "message": "x"})) is CoreStopped
    newer = _error({"code": "of_a_newer_core", "message": "x"})
    assert isinstance(newer, Refused)
    assert newer.code == "of_a_newer_core"
    assert str(_error({}))


@pytest.mark.parametrize("code", NAMES["refusals"])
def test_a_refusal_is_foreseen_by_the_api(code: str) -> None:
    problem = problem_of(REFUSALS[code]("why", code=code))
    assert 400 <= problem.status < 500
    assert problem.code == ("invalid_request" if code == "invalid" else code)


@pytest.mark.parametrize("code", sorted(set(NAMES["refusals"]) - OPERATORS_ONLY))
def test_a_refusal_is_foreseen_by_enrolment(code: str) -> None:
    answer = answer_for(REFUSALS[code]("why", code=code))
    assert answer.code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    assert answer.reason != "internal"


def test_the_reader_of_rust_sees_every_kind_of_variant() -> None:
    """Unit variants, those with fields, and nothing of their fields and comments."""
    assert rust_names(COMMAND, "Outcome") == [
        "done",
        "redeemed",
        "transitioned",
        "written",
        "locked",
        "released",
        "refused",
    ]
