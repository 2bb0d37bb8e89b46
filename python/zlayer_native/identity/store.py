"""A worker's identity: who it is, and the folder where it survives restarts and crashes.

    cert.pem  key.pem  ca.pem              the identity in use
    next-key.pem                           made before a request, so that a repeat has the same key
    next-ca.pem  next-cert.pem             the answer, until it has replaced the identity in use

Replacing three files is not one step, so it is a small redo log: `next-cert.pem` is written last
and renamed last. While it exists, the renames are done again, and each of them is harmless to
repeat; until it exists, the old identity is whole. At no moment is there none that works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from zlayer_native.errors import IdentityError
from zlayer_native.identity import files, profiles
from zlayer_native.identity.certificate import check_cas, check_worker, parse_pem
from zlayer_native.identity.keys import key_pem, load_key, new_key

_CERT, _KEY, _CA = "cert.pem", "key.pem", "ca.pem"
_NEXT_CERT, _NEXT_KEY, _NEXT_CA = "next-cert.pem", "next-key.pem", "next-ca.pem"

#: Renewal is due at half of a certificate's life, plus or minus this share of it.
_RENEWAL_JITTER = 0.1


@dataclass(frozen=True)
class Identity:
    """A worker's certificate, its key and whom it trusts. The key is not part of the repr."""

    node_id: int
    cluster_id: str
    cert_pem: str = field(repr=False)
    key_pem: str = field(repr=False)
    ca_pem: str = field(repr=False)
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, cert_pem: str, key_pem: str, ca_pem: str, what: str = "the identity") -> Identity:
        """Puts an identity together; node and cluster are those in the certificate's URI.

        Raises:
            IdentityError: a part can't be read, or the parts do not belong together.
        """
        certificates = parse_pem(cert_pem.encode(), what)
        if len(certificates) != 1:
            raise IdentityError(f"{what}: {len(certificates)} certificates, expected one")
        bundle = parse_pem(ca_pem.encode(), what)
        issuers = check_cas([profiles.der(certificate) for certificate in bundle], what)
        worker = check_worker(profiles.der(certificates[0]), issuers)
        if load_key(key_pem.encode(), what).public_key() != worker.public_key:
            raise IdentityError(f"{what}: key and certificate do not belong together")
        return cls(
            node_id=worker.node_id,
            cluster_id=worker.cluster_id,
            cert_pem=cert_pem,
            key_pem=key_pem,
            ca_pem=ca_pem,
            not_before=worker.not_before,
            not_after=worker.not_after,
        )

    def renew_at(self, spread: float) -> datetime:
        """When to renew: at half life, moved by up to a tenth of the life.

        Args:
            spread: within -1..1, drawn by the caller, so that a fleet does not renew at once.
        """
        share = 0.5 + _RENEWAL_JITTER * max(-1.0, min(1.0, spread))
        return self.not_before + (self.not_after - self.not_before) * share


class IdentityStore:
    """The folder of one worker's identity. One process uses it at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, cluster_id: str | None = None) -> Identity | None:
        """The identity in use, also if its time is up; None before the first enrolment.

        Args:
            cluster_id: the cluster that is expected, if there is an expectation.

        Raises:
            IdentityError: the files are open to others, do not belong together, or are of another
                cluster.
        """
        if not files.exists(self.folder):
            return None
        files.check_private_dir(self.folder)
        self._finish_replacing()
        there = [name for name in (_CERT, _KEY, _CA) if files.exists(self.folder / name)]
        if not there:
            return None
        if len(there) < 3:
            raise IdentityError(f"{self.folder}: has only {', '.join(there)} of an identity")
        identity = self._read()
        if cluster_id is not None and identity.cluster_id != cluster_id:
            raise IdentityError(
                f"{self.folder}: holds an identity of cluster {identity.cluster_id}, not"
                f" {cluster_id}; choose another identity folder"
            )
        return identity

    def pending_key(self) -> ec.EllipticCurvePrivateKey:
        """The key for the next certificate: on disk before anybody sees its public half.

        The same one until `save` or `discard_pending_key`.

        Raises:
            IdentityError: the folder or the file can't be used.
        """
        files.make_private_dir(self.folder)
        self._finish_replacing()
        path = self.folder / _NEXT_KEY
        if files.exists(path):
            return load_key(files.read_private(path), str(path))
        key = new_key()
        files.write_private(path, key_pem(key))
        return key

    def has_pending_key(self) -> bool:
        """Whether an earlier request left its key."""
        self._finish_replacing()
        return files.exists(self.folder / _NEXT_KEY)

    def discard_pending_key(self) -> None:
        """Makes the next `pending_key` a new one.

        Raises:
            IdentityError: the file can't be removed.
        """
        self._finish_replacing()
        files.remove(self.folder / _NEXT_KEY)

    def save(self, identity: Identity) -> None:
        """Makes this the identity in use, durably and at once.

        Raises:
            IdentityError: the folder holds an identity of another cluster, or can't be written;
                the identity in use before is still in use.
        """
        whole = Identity.of(identity.cert_pem, identity.key_pem, identity.ca_pem)
        files.make_private_dir(self.folder)
        self.load(cluster_id=whole.cluster_id)
        files.clear_temporaries(self.folder)
        files.write_private(self.folder / _NEXT_KEY, whole.key_pem.encode())
        files.write_private(self.folder / _NEXT_CA, whole.ca_pem.encode())
        files.write_private(self.folder / _NEXT_CERT, whole.cert_pem.encode())
        self._finish_replacing()

    def _finish_replacing(self) -> None:
        """Brings a replacement to its end that `save` began, whatever crashed in between."""
        if not files.exists(self.folder / _NEXT_CERT):
            return
        # What was renamed already is found under its new name.
        for next_name, name in ((_NEXT_KEY, _KEY), (_NEXT_CA, _CA), (_NEXT_CERT, _CERT)):
            if files.exists(self.folder / next_name):
                files.rename(self.folder / next_name, self.folder / name)

    def _read(self) -> Identity:
        return Identity.of(
            self._text(_CERT, files.read_public),
            self._text(_KEY, files.read_private),
            self._text(_CA, files.read_public),
            str(self.folder),
        )

    def _text(self, name: str, read: Callable[[Path], bytes]) -> str:
        try:
            return read(self.folder / name).decode("ascii")
        except UnicodeDecodeError as error:
            raise IdentityError(f"{self.folder / name}: is not PEM") from error
