"""S17: labels and names outside the token's bounds, or outside any bounds. Also T8, T34 and T36."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security.calls import Refusal, raw, register
from tests.unit.enroll.cluster import IMPATIENT, RunningCluster
from zlayer_native._proto.zlayer.cluster.v1 import enrollment_pb2 as pb
from zlayer_native.enroll.admission import check_description, check_labels
from zlayer_native.enroll.answers import plain
from zlayer_native.enroll.client import Machine, enroll
from zlayer_native.errors import EnrollmentError, InvalidRequest, LabelNotPermitted
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.keys import new_key
from zlayer_native.identity.store import IdentityStore

BOUNDS: dict[str, Any] = {"labels": {"zone": "a"}, "labels_allowed": ["disk"]}


@pytest.mark.parametrize(
    "labels", [{}, {"zone": "a"}, {"disk": "ssd"}, {"zone": "a", "disk": "nvme.2_x-1"}]
)
def test_s17_labels_inside_the_bounds_pass(labels: dict[str, str]) -> None:
    check_labels(labels, BOUNDS)


@pytest.mark.parametrize(
    "labels",
    [
        {"zone": "b"},
        {"rack": "1"},
        {"disk": "ssd", "rack": "1"},
        {"zlayer.io/role": "server"},
        {"zlayer.io/": "x"},
        {"Zone": "a"},
    ],
)
def test_s17_labels_outside_the_bounds_are_refused_not_ignored(labels: dict[str, str]) -> None:
    with pytest.raises((LabelNotPermitted, InvalidRequest)):
        check_labels(labels, BOUNDS)


UGLY = [
    "",
    "a b",
    "../a",
    "a/../b",
    "a..b",
    "a\0b",
    "a\nb",
    "a\n",
    "\x1b[31mred",
    "a\u202egnp.exe",
    "\U0001f600",
    "\u0430",
    "A",
    "-a",
    "a-",
    ".a",
    "a" * 64,
    "a" * 2**20,
    "\u0661",
    "a\u0301",
    "<script>",
    "a'--",
]


@pytest.mark.parametrize("text", UGLY, ids=range(len(UGLY)))
def test_s17_ugly_keys_values_and_names_are_refused(text: str) -> None:
    for labels in ({text: "a"}, {"disk": text}):
        with pytest.raises(InvalidRequest) as refused:
            check_labels(labels, BOUNDS)
        shown = plain(str(refused.value))
        assert shown.isascii()
        assert shown.isprintable()
        assert len(shown) <= 200
    if text:
        with pytest.raises(InvalidRequest, match="name: expected"):
            check_description(text, {"os": "", "arch": "", "version": ""})


def test_s17_ten_thousand_labels_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="10000 are too many"):
        check_labels({f"k{n}": "v" for n in range(10_000)}, BOUNDS)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=70), st.text(max_size=70), max_size=4))
def test_s17_no_text_gets_past_the_bounds(labels: dict[str, str]) -> None:
    try:
        check_labels(labels, BOUNDS)
    except (LabelNotPermitted, InvalidRequest):
        return
    assert set(labels) <= {"zone", "disk"}
    assert labels.get("zone", "a") == "a"


@pytest.mark.parametrize("field", ["os", "arch", "version"])
def test_s17_descriptions_are_short_and_printable(field: str) -> None:
    good = {"os": "linux", "arch": "x86_64", "version": "1.2.3+local"}
    check_description("", good)
    for text in ("a" * 65, "a\n", "\x1b[2J", "\u00e9", "\x7f"):
        with pytest.raises(InvalidRequest, match=f"{field}: expected"):
            check_description("", {**good, field: text})


async def test_s17_the_wire_refuses_them_before_anything_is_proposed(
    cluster: RunningCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    line = await cluster.token(**BOUNDS)
    for labels, answer in (
        ({"rack": "1"}, ("PERMISSION_DENIED", "label_not_permitted")),
        ({"zone": "b"}, ("PERMISSION_DENIED", "label_not_permitted")),
        ({"zlayer.io/x": "1"}, ("PERMISSION_DENIED", "label_not_permitted")),
        ({"disk": "\x1b[31m\u202e\nevil"}, ("INVALID_ARGUMENT", "invalid")),
        ({"\x1b]0;evil\x07": "x"}, ("INVALID_ARGUMENT", "invalid")),
        ({"zlayer.io/\x1b[31m": "x"}, ("PERMISSION_DENIED", "label_not_permitted")),
    ):
        with pytest.raises(Refusal) as refused:
            await register(cluster, line, labels=labels)
        assert (refused.value.code, refused.value.reason) == answer
        assert refused.value.text.isprintable()
    for profile in ({"name": "../x"}, {"os": "\x1b[31m"}, {"version": "v" * 100}):
        with pytest.raises(Refusal) as refused:
            await register(cluster, line, profile=pb.NodeProfile(**profile))
        assert refused.value.code == "INVALID_ARGUMENT"
    assert cluster.state.proposed == []
    logged = "".join(capfd.readouterr())
    assert "label_not_permitted" in logged
    assert "\x1b[31m\u202e" not in logged
    assert "\x1b]0;evil" not in logged


async def test_s17_labels_that_are_no_utf_8_are_refused(cluster: RunningCluster) -> None:
    line = await cluster.token(**BOUNDS)
    good = pb.RegisterRequest(
        bootstrap_token=line, csr_der=new_csr(new_key()), labels={"disk": "x_x"}
    ).SerializeToString()
    assert b"x_x" in good
    with pytest.raises(Refusal) as refused:
        await raw(cluster, "Register", good.replace(b"x_x", b"\xff_\xfe"))
    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "malformed")


async def test_s17_a_strangers_labels_are_not_judged(cluster: RunningCluster) -> None:
    """Who has no token learns nothing about labels."""
    with pytest.raises(Refusal) as refused:
        await register(cluster, "zlt1", labels={"../": "x"})
    assert refused.value.reason == "token_invalid"


async def test_s17_the_machine_is_told_which_label(cluster: RunningCluster, tmp_path: Path) -> None:
    line = await cluster.token(**BOUNDS)
    machine = Machine(labels={"rack": "1"})
    store = IdentityStore(tmp_path / "i")
    with pytest.raises(EnrollmentError, match="label rack: the token does not allow it") as refused:
        await enroll([cluster.address], line, store, machine, patience=IMPATIENT)
    assert not refused.value.retryable
    assert refused.value.code == "PERMISSION_DENIED"
