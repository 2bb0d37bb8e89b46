"""The cluster's authority: the CA and the token signer, as files of one folder.

    ca.key        P-256 private key, 0600
    ca.pem        its certificate; during a rotation a second one that is still trusted
    token.key     Ed25519 private key that signs bootstrap tokens, 0600
    cluster.json  {"cluster_id": …}

The folder has mode 0700. It is made whole or not at all: while a file `creating` exists, nothing in
the folder was ever used.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from zlayer_native.errors import IdentityError
from zlayer_native.identity import files, profiles
from zlayer_native.identity.certificate import (
    CA_CERTIFICATES_MAX,
    certificate_key_hash,
    check_ca,
    parse_pem,
)
from zlayer_native.identity.keypair import KeyPair
from zlayer_native.identity.keys import key_pem, load_key, load_signer_key, new_key
from zlayer_native.identity.names import check_cluster_id, new_cluster_id
from zlayer_native.identity.signer import TokenSigner

_CA_KEY, _CA_PEM, _TOKEN_KEY, _CLUSTER = "ca.key", "ca.pem", "token.key", "cluster.json"
_FILES = (_CA_KEY, _CA_PEM, _TOKEN_KEY, _CLUSTER)
_CREATING = "creating"

#: A clock that steps back by more than this signs nothing until it has caught up.
_CLOCK_STEP_MAX = timedelta(seconds=60)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """Signs certificates and tokens of one cluster.

    Made with `create`, `open` or `open_or_create`; belongs to one event loop or thread.
    """

    def __init__(
        self,
        cluster_id: str,
        issuer: profiles.Issuer,
        certificates: list[x509.Certificate],
        token_key: ed25519.Ed25519PrivateKey,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.cluster_id = cluster_id
        #: Trusted CA certificates, the signing one first.
        self.certificates = tuple(certificates)
        self.ca_der_list = [profiles.der(certificate) for certificate in certificates]
        self.ca_pem = b"".join(map(profiles.pem, certificates)).decode()
        self.token_signer = TokenSigner(cluster_id, token_key, self.ca_der_list)
        self._issuer = issuer
        self._token_key = token_key
        self._now = now
        self._last_signed = issuer.certificate.not_valid_before_utc
        self._own_keys = set(map(certificate_key_hash, certificates))

    def __repr__(self) -> str:
        return f"Authority({self.cluster_id!r})"

    @classmethod
    def create(
        cls, folder: Path, cluster_id: str | None = None, now: Callable[[], datetime] = _utc_now
    ) -> Authority:
        """Makes a CA, a token signer and, unless given, a cluster id in a new or empty folder.

        Raises:
            IdentityError: there is one already, or the folder can't be used.
        """
        cluster_id = check_cluster_id(cluster_id or new_cluster_id())
        key = new_key()
        contents = {
            _CLUSTER: json.dumps({"cluster_id": cluster_id}).encode() + b"\n",
            _TOKEN_KEY: key_pem(ed25519.Ed25519PrivateKey.generate()),
            _CA_PEM: profiles.pem(profiles.sign_ca(key, cluster_id, now())),
            _CA_KEY: key_pem(key),
        }
        _write_whole(folder, contents)
        return cls.open(folder, now)

    @classmethod
    def install(
        cls, folder: Path, exported: bytes, now: Callable[[], datetime] = _utc_now
    ) -> Authority:
        """Writes what `export` gave on another server into a new or empty folder.

        Raises:
            IdentityError: there is an authority already, or this is none, or it can't be written.
        """
        try:
            document = json.loads(exported)
            contents = {name: str(document[name]).encode() for name in _FILES}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise IdentityError("what another server handed over is no authority") from None
        _write_whole(folder, contents)
        return cls.open(folder, now)

    def export(self) -> bytes:
        """All that another server of this cluster needs to sign. A secret: only ever sealed."""
        document = {
            _CLUSTER: json.dumps({"cluster_id": self.cluster_id}) + "\n",
            _TOKEN_KEY: key_pem(self._token_key).decode(),
            _CA_PEM: self.ca_pem,
            _CA_KEY: key_pem(self._issuer.key).decode(),
        }
        return json.dumps(document).encode()

    @classmethod
    def open(cls, folder: Path, now: Callable[[], datetime] = _utc_now) -> Authority:
        """Reads what `create` made.

        Raises:
            IdentityError: something is missing, readable by others, a link, another user's, cut
                short, or does not belong together; the message names it.
        """
        files.check_private_dir(folder)
        if files.exists(folder / _CREATING):
            raise IdentityError(f"{folder}: its set-up was cut short; run it again")
        cluster_id = _read_cluster_id(folder / _CLUSTER)
        key = load_key(files.read_private(folder / _CA_KEY), str(folder / _CA_KEY))
        certificates = _read_certificates(folder / _CA_PEM, key, now())
        token_path = folder / _TOKEN_KEY
        token_key = load_signer_key(files.read_private(token_path), str(token_path))
        issuer = profiles.Issuer(certificates[0], key)
        return cls(cluster_id, issuer, certificates, token_key, now)

    @classmethod
    def open_or_create(
        cls, folder: Path, cluster_id: str | None = None, now: Callable[[], datetime] = _utc_now
    ) -> Authority:
        """Opens the authority of a cluster, or makes it at the first start.

        Raises:
            IdentityError: as `open`, or the folder is of another cluster than `cluster_id`.
        """
        if cls.is_there(folder):
            authority = cls.open(folder, now)
        else:
            authority = cls.create(folder, cluster_id, now)
        if cluster_id is not None and authority.cluster_id != cluster_id:
            raise IdentityError(f"{folder}: is of cluster {authority.cluster_id}, not {cluster_id}")
        return authority

    def fingerprints(self) -> tuple[str, ...]:
        """SHA-256 of each CA certificate, lower-case hex: what an operator compares."""
        return tuple(ca.fingerprint(hashes.SHA256()).hex() for ca in self.certificates)

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Whether a cluster's files are in the folder. A set-up that was cut short is none."""
        if files.exists(folder / _CREATING):
            return False
        return any(files.exists(folder / name) for name in _FILES)

    def sign_worker(
        self,
        node_id: int,
        public_key: ec.EllipticCurvePublicKey,
        *,
        serial: int,
        not_after: datetime,
    ) -> x509.Certificate:
        """A worker's certificate: everything but the key is ours to say.

        Raises:
            IdentityError: the clock can't be trusted, or the validity is out of range.
        """
        leaf = profiles.worker_leaf(self.cluster_id, node_id)
        validity = profiles.Validity.starting(self._signing_time(), timedelta())
        validity = profiles.Validity(validity.not_before, not_after)
        return profiles.sign_leaf(self._issuer, leaf, public_key, serial=serial, validity=validity)

    def worker_not_after(self, life: timedelta = profiles.WORKER_LIFE) -> datetime:
        """End of a certificate that is signed now: `life` from now, or the CA's own end.

        Raises:
            IdentityError: the clock can't be trusted.
        """
        return self._validity(life).not_after

    def sign_server(
        self, node_id: int, public_key: ec.EllipticCurvePublicKey, *, serial: int
    ) -> x509.Certificate:
        """A server's certificate for a key that another machine holds.

        Raises:
            IdentityError: the clock can't be trusted.
        """
        leaf = profiles.server_leaf(self.cluster_id, node_id)
        validity = self._validity(profiles.SERVER_LIFE)
        return profiles.sign_leaf(self._issuer, leaf, public_key, serial=serial, validity=validity)

    def issue_server(self, node_id: int) -> KeyPair:
        """A new key and certificate for `server.<cluster>`."""
        return self._issue(profiles.server_leaf(self.cluster_id, node_id))

    def issue_join(self, node_id: int) -> KeyPair:
        """A new key and certificate for `join.<cluster>`."""
        return self._issue(profiles.join_leaf(self.cluster_id, node_id))

    def is_own_key(self, hashed: str) -> bool:
        """Whether the key is the CA's or of one of its server and join certificates.

        Knows those that this object issued or was told of.
        """
        return hashed in self._own_keys

    def note_own_key(self, certificate: x509.Certificate) -> None:
        """No worker can enrol with the key of this certificate from now on."""
        self._own_keys.add(certificate_key_hash(certificate))

    def check_clock(self, stamp: datetime) -> None:
        """Checks our clock against a time that the control state recorded.

        Raises:
            IdentityError: our clock is more than a minute behind it.
        """
        if self._now() < stamp - _CLOCK_STEP_MAX:
            raise IdentityError(
                "this server's clock went back: nothing is signed until it is right"
            )

    def _issue(self, leaf: profiles.Leaf) -> KeyPair:
        key = new_key()
        validity = self._validity(profiles.SERVER_LIFE)
        certificate = profiles.sign_leaf(
            self._issuer, leaf, key.public_key(), serial=profiles.new_serial(), validity=validity
        )
        self.note_own_key(certificate)
        return KeyPair.of(key, certificate)

    def _validity(self, life: timedelta) -> profiles.Validity:
        end = self._issuer.certificate.not_valid_after_utc
        return profiles.Validity.starting(self._signing_time(), life).until_at_most(end)

    def _signing_time(self) -> datetime:
        now = self._now()
        if now < self._issuer.certificate.not_valid_before_utc:
            raise IdentityError("this server's clock is before its CA's begin: nothing is signed")
        if now >= self._issuer.certificate.not_valid_after_utc:
            raise IdentityError("the CA certificate has expired: nothing is signed")
        self.check_clock(self._last_signed)
        self._last_signed = max(self._last_signed, now)
        return now


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps a second process from setting up the same folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise IdentityError(f"{folder}: another process is setting it up") from error
        yield
    finally:
        os.close(descriptor)


def _write_whole(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Makes an authority's files, all or none."""
    files.make_private_dir(folder)
    with _locked(folder):
        _clear_unfinished(folder)
        files.clear_temporaries(folder)
        found = [name for name in _FILES if files.exists(folder / name)]
        if found:
            raise IdentityError(f"{folder}: holds a cluster's {', '.join(found)} already")
        files.write_private(folder / _CREATING, b"")
        for name, content in contents.items():
            files.write_private(folder / name, content)
        files.remove(folder / _CREATING)


def _clear_unfinished(folder: Path) -> None:
    """Removes what a set-up that was cut short left: nothing was ever signed with it."""
    if files.exists(folder / _CREATING):
        for name in (*_FILES, _CREATING):
            files.remove(folder / name)


def _read_cluster_id(path: Path) -> str:
    try:
        document = json.loads(files.read_private(path))
        cluster_id = document["cluster_id"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IdentityError(f'{path}: expected {{"cluster_id": …}} (cut short?)') from error
    return check_cluster_id(str(cluster_id))


def _read_certificates(
    path: Path, key: ec.EllipticCurvePrivateKey, now: datetime
) -> list[x509.Certificate]:
    certificates = parse_pem(files.read_public(path), str(path))
    if len(certificates) > CA_CERTIFICATES_MAX:
        raise IdentityError(f"{path}: holds {len(certificates)} certificates, expected 1 or 2")
    for certificate in certificates:
        check_ca(certificate, str(path))
    if certificates[0].public_key() != key.public_key():
        raise IdentityError(
            f"{path}: its first certificate does not belong to {path.parent / _CA_KEY}"
        )
    if now >= certificates[0].not_valid_after_utc:
        raise IdentityError(f"{path}: expired on {certificates[0].not_valid_after_utc:%Y-%m-%d}")
    return certificates
