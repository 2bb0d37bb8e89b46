"""A server's two certificates on disk: kept over restarts, replaced at half of their life."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from zlayer_native.errors import IdentityError
from zlayer_native.identity import files
from zlayer_native.identity.authority import Authority
from zlayer_native.identity.certificate import is_issued_by
from zlayer_native.identity.keypair import KeyPair
from zlayer_native.identity.names import join_name, server_name


class ServerCertificates:
    """The certificates of the server `node_id`, in `folder` (mode 0700)."""

    def __init__(
        self,
        authority: Authority,
        folder: Path,
        node_id: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._authority = authority
        self._folder = folder
        self._node_id = node_id
        self._now = now
        self._current: dict[str, KeyPair] = {}

    def server(self) -> KeyPair:
        """For `server.<cluster>`: the same one until half of its life is over.

        Raises:
            IdentityError: its file is open to others, a link, or can't be written.
        """
        name = server_name(self._authority.cluster_id)
        return self._get("server", name, self._authority.issue_server)

    def join(self) -> KeyPair:
        """For `join.<cluster>`; otherwise as `server`."""
        return self._get("join", join_name(self._authority.cluster_id), self._authority.issue_join)

    def _get(self, kind: str, dns_name: str, issue: Callable[[int], KeyPair]) -> KeyPair:
        pair = self._current.get(kind)
        path = self._folder / f"{kind}-{self._node_id}.pem"
        if pair is None and files.exists(path):
            pair = self._read(path, dns_name)
        if pair is None or self._now() >= pair.renew_at:
            pair = issue(self._node_id)
            pair.save(path)
        self._current[kind] = pair
        return pair

    def _read(self, path: Path, dns_name: str) -> KeyPair | None:
        """The stored pair, or None where another CA or another cluster made it."""
        pair, certificate = KeyPair.load(path)
        issuer = self._authority.certificates[0]
        if not is_issued_by(certificate, issuer) or _dns_names(certificate) != [dns_name]:
            return None
        self._authority.note_own_key(certificate)
        return pair


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise IdentityError("a server's certificate has no names") from error
    return names.value.get_values_for_type(x509.DNSName)
