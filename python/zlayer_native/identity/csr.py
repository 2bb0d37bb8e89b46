"""Certificate signing requests: only the public key is ever used; the rest must be empty and right.

The order of checks is fixed, cheap ones first: length, DER, exactly P-256, nothing requested,
signature.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from zlayer_native.errors import InvalidRequest
from zlayer_native.identity.der import element, elements
from zlayer_native.identity.keys import is_p256, public_der

#: A P-256 request has about 200 bytes. Chosen.
CSR_BYTES_MAX = 1024

_NO_ATTRIBUTES = b"\xa0\x00"
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def new_csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request for this key that asks for nothing, as DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def check_csr(content: bytes) -> ec.EllipticCurvePublicKey:
    """Returns the request's public key, once its holder has proved to have the private one.

    Raises:
        InvalidRequest: code `csr_refused`; anything about it is not as `new_csr` makes it.
    """
    if len(content) > CSR_BYTES_MAX:
        raise _refused(f"longer than {CSR_BYTES_MAX} bytes")
    try:
        return _check(content)
    except InvalidRequest:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    # The bytes are hostile and the parser is native code, whose panics are no `Exception`.
    except BaseException as error:
        raise _refused("not a PKCS #10 request in DER") from error


def _check(content: bytes) -> ec.EllipticCurvePublicKey:
    request = x509.load_der_x509_csr(content)
    key = request.public_key()
    if not (isinstance(key, ec.EllipticCurvePublicKey) and is_p256(key)):
        raise _refused("the key is not P-256")
    _check_encoding(content, key)
    if request.is_signature_valid is not True:
        raise _refused("the signature does not match the key")
    return key


def _check_encoding(content: bytes, key: ec.EllipticCurvePublicKey) -> None:
    """Refuses what the parser forgives: a compressed point, explicit parameters, attributes."""
    _, _, body, end = element(content)
    if end != len(content):
        raise _refused("bytes after its end")
    (_, _, information), (_, algorithm, _), (_, _, signature) = elements(body)
    _version, _subject, (_, public, _), *attributes = elements(information)
    if public != public_der(key):
        raise _refused("the key is not an uncompressed point on a named curve")
    if [whole for _, whole, _ in attributes] != [_NO_ATTRIBUTES]:
        raise _refused("it requests an extension or an attribute")
    if algorithm != _ECDSA_WITH_SHA256:
        raise _refused("the signature is not ecdsa-with-SHA256")
    # The first byte of a bit string counts unused bits, and some may seem to be unused here.
    if not signature.startswith(b"\0"):
        raise _refused("the signature is not whole bytes")


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"the CSR is refused: {why}", code="csr_refused")
