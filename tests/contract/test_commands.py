"""Commands and their outcomes: one story, told to the built core and to the tests' own state."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.boundary.real_core import RealCore, create_token, real_core
from tests.contract.golden import filled, load, mismatch
from tests.unit.api.api import NODES, TOKENS, running_api
from tests.unit.enroll.in_memory_state import InMemoryState
from zlayer_native.enroll.admission import Admission, Joining
from zlayer_native.enroll.open_tokens import OpenTokens
from zlayer_native.enroll.records import CoreRecords
from zlayer_native.enroll.renewal import Renewal, Renewing
from zlayer_native.errors import REFUSALS, LimitReached, Refused
from zlayer_native.identity import proof
from zlayer_native.identity.csr import new_csr
from zlayer_native.identity.keys import new_key

STORY = load("commands")
Propose = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


async def tell(propose: Propose) -> list[str]:
    """Tells the story; returns the lines that were answered otherwise than they must be."""
    wrong = []
    for number, step in enumerate(STORY):
        try:
            answer: Any = {"outcome": await propose(filled(step["command"]))}
        except Refused as error:
            answer = {"refusal": {"code": error.code, "message": str(error)}}
            if type(error) is not REFUSALS[error.code]:
                wrong.append(f"{number}: {type(error)} for {error.code}")
        want = {key: step[key] for key in ("outcome", "refusal") if key in step}
        if answer != want:
            wrong.append(f"{number}: {step['command']} answered {answer}, not {want}")
    return wrong


async def test_the_core_answers_as_it_is_written(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        assert await tell(core.server.propose) == []


async def test_the_tests_own_state_follows_the_core(tmp_path: Path) -> None:
    """What enrolment is tested against must say the same, but for texts that nobody reads."""
    state = InMemoryState(lambda: int(time.time() * 1000))
    known = {"create_token", "redeem", "renew_certificate", "revoke_token", "remove_node"}

    told, wrong = Counter[str](), []
    for step in STORY:
        kind, code = step["command"]["type"], step.get("refusal", {"code": ""})["code"]
        # It trusts the tests that make its tokens.
        if kind not in known or (kind == "create_token" and code):
            continue
        optional = {"name": "", "labels": {}, "profile": {}} if kind == "redeem" else {}
        try:
            answer: Any = await state.propose({**optional, **filled(step["command"])})
        except Refused as error:
            answer = error.code if type(error) is REFUSALS[error.code] else error
        told[type(answer).__name__] += 1
        if answer != step.get("outcome", code):
            wrong.append(f"{step} answered {answer!r}")
    assert wrong == []
    assert told == {"dict": 10, "str": 12}


def test_the_story_has_every_command_and_nearly_every_refusal() -> None:
    names = load("names")
    assert {step["command"]["type"] for step in STORY} == set(names["commands"])
    told = {step["refusal"]["code"] for step in STORY if "refusal" in step}
    # The limits are too high for a story; see the test below.
    assert told == set(names["refusals"]) - {"limit_reached"}


async def test_the_limit_of_tokens_is_a_refusal(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        places = asyncio.Semaphore(2000)

        async def create() -> None:
            async with places:
                await core.server.propose(create_token())

        await asyncio.gather(*(create() for _ in range(10_000)))
        with pytest.raises(LimitReached, match=r"limit reached: tokens \(10000\)") as refused:
            await core.server.propose(create_token())
        assert refused.value.code == "limit_reached"


# --- what Python sends ----------------------------------------------------------------------------


def shape_of(kind: str) -> dict[str, Any]:
    """All fields that a command of this type may have."""
    known: dict[str, Any] = {}
    for step in STORY:
        if step["command"]["type"] == kind:
            known |= step["command"]
    return known


def unknown_fields(command: dict[str, Any]) -> list[str]:
    shape = shape_of(command["type"])
    wrong = [key for key in command if key not in shape]
    for nested in ("certificate", "profile"):
        if nested in command:
            wrong += [key for key in command[nested] if key not in shape[nested]]
            wrong += [key for key in shape[nested] if key not in command[nested]]
    return wrong


async def test_what_the_api_proposes_is_in_the_golden_story() -> None:
    async with running_api() as api:
        await api.call("POST", TOKENS, json={"name": "a", "labels": {"b": "c"}})
        await api.call("DELETE", f"{TOKENS}/{'0' * 32}")
        await api.call("PUT", f"{NODES}/1000/drain", json={"draining": True})
        await api.call("DELETE", f"{NODES}/1000")
        proposed = api.core.proposed
    assert [command["type"] for command in proposed] == [
        "create_token",
        "revoke_token",
        "set_draining",
        "remove_node",
    ]
    assert [unknown_fields(command) for command in proposed] == [[]] * 4


class Recording(CoreRecords):
    """Remembers what enrolment proposes to the built core."""

    def __init__(self, core: RealCore) -> None:
        super().__init__(core.server)
        self.proposed: list[dict[str, Any]] = []

    async def propose(self, command: dict[str, Any]) -> dict[str, Any]:
        self.proposed.append(command)
        return await super().propose(command)


async def test_what_enrolment_proposes_is_understood_by_the_core(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        records = Recording(core)
        clocks = {"now": time.time, "monotonic": time.monotonic}
        life = timedelta(hours=24)
        tokens = OpenTokens(core.authority, records, **clocks)
        admission = Admission(core.authority, records, tokens, life=life)
        key = new_key()
        profile = dict(shape_of("redeem")["profile"])
        joined = await admission.admit(
            Joining(
                token=await core.token_line(labels_allowed=["disk"]),
                csr=new_csr(key),
                name="gpu-7",
                labels={"disk": "ssd"},
                profile=profile,
            )
        )
        assert joined.node_id == 1000
        node = records.node(1000) or {}
        assert mismatch(node["profile"], load("views")["node"]["profile"]) == []
        assert (node["name"], node["labels"], node["profile"]) == (
            "gpu-7",
            {"disk": "ssd"},
            profile,
        )
        ends = node["certificate_not_after_ms"] / 1000
        signed = x509.load_der_x509_certificate(joined.certificate)
        assert datetime.fromtimestamp(ends, UTC) == signed.not_valid_after_utc

        renewal = Renewal(core.authority, records, life=life, grace=life, **clocks)
        csr, nonce = new_csr(new_key()), renewal.nonces.new()
        content = proof.signed_bytes(core.cluster_id, joined.certificate, csr, nonce)
        await renewal.renew(
            Renewing(
                old_certificate=joined.certificate,
                csr=csr,
                nonce=nonce,
                signature=proof.sign(key, content),
            )
        )
    assert [command["type"] for command in records.proposed] == ["redeem", "renew_certificate"]
    assert [unknown_fields(command) for command in records.proposed] == [[], []]
