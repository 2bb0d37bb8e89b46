//! Why a dial or a session ended, in words for people and in a kind that the protocol acts on.

use std::error::Error;

use rustls::{AlertDescription, CertificateError};
use tonic::{Code, Status};

use crate::refusal::Refusal;

/// What the protocol does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Dial again, with the waits of a lost connection or a failed dial.
    Lost,
    /// The server asked for a new connection: dial at once.
    Aged,
    /// The cluster does not know this node any more. Retried slowly.
    Removed,
    /// Another session of this node took over: another process, or a hello of this one that was given up.
    Superseded,
    /// The cluster refuses this worker for another reason that time alone does not mend. Retried slowly.
    Refused,
}

/// An ended dial or session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// One line.
    pub why: String,
    /// The server said so; otherwise this end noticed.
    pub said: bool,
}

impl Failure {
    pub(crate) fn lost(why: impl Into<String>) -> Self {
        Self { kind: FailureKind::Lost, why: why.into(), said: false }
    }

    /// From the status that ended a stream.
    pub(crate) fn of_status(status: &Status) -> Self {
        let kind = match Refusal::of(status) {
            Some(Refusal::Aged) => FailureKind::Aged,
            Some(Refusal::Removed | Refusal::Unknown) => FailureKind::Removed,
            Some(Refusal::Superseded) => FailureKind::Superseded,
            Some(Refusal::WrongNode | Refusal::Feature) => FailureKind::Refused,
            // A new certificate mends an expired one, and it is on its way.
            Some(
                Refusal::CertificateExpired
                | Refusal::Protocol
                | Refusal::TooFast
                | Refusal::Full
                | Refusal::Stopping,
            ) => FailureKind::Lost,
            None => match status.code() {
                Code::PermissionDenied | Code::Unauthenticated => FailureKind::Refused,
                _ => FailureKind::Lost,
            },
        };
        let why = match status.source() {
            Some(source) => describe(source),
            None if status.message().is_empty() => format!("the server said {:?}", status.code()),
            None => status.message().to_owned(),
        };
        Self { kind, why, said: status.source().is_none() }
    }
}

/// The most telling text of an error and its sources: a TLS reason in plain words, or the innermost error.
pub(crate) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error.to_string();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(text) = error.downcast_ref::<rustls::Error>().and_then(tls_reason) {
            return text.into();
        }
        innermost = error.to_string();
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    innermost
}

/// Plain words for the reasons that an operator can do something about.
fn tls_reason(error: &rustls::Error) -> Option<&'static str> {
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the server's certificate is not of this cluster's CA"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is not for a server of this cluster"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet: compare the clocks"
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the server's certificate is not for servers"
            }
            _ => "the server's certificate can't be accepted",
        },
        rustls::Error::AlertReceived(alert) => return alert_reason(*alert),
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS",
        rustls::Error::PeerIncompatible(_) => "the server offers no TLS 1.3",
        rustls::Error::NoApplicationProtocol => "the server offers no HTTP/2",
        _ => return None,
    })
}

fn alert_reason(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateExpired => {
            "the server refused this certificate: it has expired"
        }
        AlertDescription::UnknownCA => {
            "the server refused this certificate: it is not of the server's CA"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => "the server refused this certificate",
        AlertDescription::ProtocolVersion => "the server offers no TLS 1.3",
        AlertDescription::UnrecognisedName => "the server is of another cluster",
        AlertDescription::NoApplicationProtocol => "the server offers no HTTP/2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn each_refusal_has_the_kind_that_fits_it() {
        for (refusal, kind) in [
            (Refusal::Removed, FailureKind::Removed),
            (Refusal::Unknown, FailureKind::Removed),
            (Refusal::CertificateExpired, FailureKind::Lost),
            (Refusal::WrongNode, FailureKind::Refused),
            (Refusal::Protocol, FailureKind::Lost),
            (Refusal::Feature, FailureKind::Refused),
            (Refusal::TooFast, FailureKind::Lost),
            (Refusal::Superseded, FailureKind::Superseded),
            (Refusal::Full, FailureKind::Lost),
            (Refusal::Stopping, FailureKind::Lost),
            (Refusal::Aged, FailureKind::Aged),
        ] {
            let failure = Failure::of_status(&refusal.status());
            assert_eq!(failure.kind, kind, "{refusal:?}");
            assert!(!failure.why.is_empty());
        }
        let denied = Failure::of_status(&Status::permission_denied("no"));
        assert_eq!(denied, Failure { kind: FailureKind::Refused, why: "no".into(), said: true });
        assert_eq!(Failure::of_status(&Status::unavailable("x")).kind, FailureKind::Lost);
    }

    #[test]
    fn a_tls_reason_is_found_below_other_errors() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, unknown);
        assert_eq!(describe(&wrapped), "the server's certificate is not of this cluster's CA");
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, alert));
        assert_eq!(describe(&wrapped), "the server refused this certificate: it has expired");
        assert_eq!(describe(&io::Error::other("innermost")), "innermost");
    }
}
