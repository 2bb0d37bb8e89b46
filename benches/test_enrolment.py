"""What letting one machine in costs: request, token, certificate. No network, no log."""

from __future__ import annotations

import secrets
import time

import pytest

from zlayer_native.identity import profiles
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.claims import Token
from zlayer_native.identity.csr import check_csr, new_csr
from zlayer_native.identity.keys import new_key


@pytest.fixture
def authority(tmp_path):
    return Authority.create(tmp_path / "cluster")


def test_check_csr(benchmark):
    csr = new_csr(new_key())
    benchmark(check_csr, csr)


def test_sign_worker(benchmark, authority):
    key, not_after = new_key().public_key(), authority.worker_not_after()

    def sign():
        return authority.sign_worker(1000, key, serial=profiles.new_serial(), not_after=not_after)

    assert benchmark(sign).not_valid_after_utc == not_after


def test_verify_token(benchmark, authority):
    now = int(time.time())
    claims = Token(
        cluster_id=authority.cluster_id,
        jti=secrets.token_hex(16),
        created_s=now,
        expires_s=now + 3600,
        uses_max=1,
        labels={"zone": "a"},
        labels_allowed=(),
    )
    line = authority.token_signer.issue(claims)
    assert benchmark(authority.token_signer.verify, line, now) == claims


def test_make_key_and_csr(benchmark):
    benchmark(lambda: new_csr(new_key()))
