//! Why a server ends or refuses a session: a gRPC status, and a stable name in its metadata that the worker
//! acts on.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Metadata key of the name.
pub const KEY: &str = "zlayer-reason";

/// Why a session was refused or ended by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// The node was removed. Terminal: only a new enrolment helps.
    Removed = 1,
    /// The cluster knows no node with the certificate's id. Terminal.
    Unknown = 2,
    /// The certificate's validity ended while the connection was open. Connect again with a new one.
    CertificateExpired = 3,
    /// A report named another node than the certificate does. Terminal.
    WrongNode = 4,
    /// The first report had no hello, or a later one repeated it.
    Protocol = 5,
    /// The worker needs a feature that this server does not have. Terminal.
    Feature = 6,
    /// More reports than the limit.
    TooFast = 7,
    /// A newer session of the same node took over.
    Superseded = 8,
    /// The lease table is full, or the node has too many connections.
    Full = 9,
    /// The server stops, or does not lead. Try another one.
    Stopping = 10,
    /// The connection has reached its age. Connect again at once: the lease goes on.
    Aged = 11,
}

/// All of them, by their number minus one.
const ALL: [Refusal; 11] = [
    Refusal::Removed,
    Refusal::Unknown,
    Refusal::CertificateExpired,
    Refusal::WrongNode,
    Refusal::Protocol,
    Refusal::Feature,
    Refusal::TooFast,
    Refusal::Superseded,
    Refusal::Full,
    Refusal::Stopping,
    Refusal::Aged,
];

impl Refusal {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Unknown => "unknown_node",
            Self::CertificateExpired => "certificate_expired",
            Self::WrongNode => "wrong_node_id",
            Self::Protocol => "protocol",
            Self::Feature => "feature",
            Self::TooFast => "too_fast",
            Self::Superseded => "superseded",
            Self::Full => "full",
            Self::Stopping => "stopping",
            Self::Aged => "age",
        }
    }

    /// Whether another attempt with the same identity is of no use.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Removed | Self::Unknown | Self::WrongNode | Self::Feature)
    }

    const fn code(self) -> Code {
        match self {
            Self::Removed | Self::Unknown | Self::WrongNode => Code::PermissionDenied,
            Self::CertificateExpired => Code::Unauthenticated,
            Self::Protocol => Code::InvalidArgument,
            Self::Feature => Code::FailedPrecondition,
            Self::TooFast | Self::Full => Code::ResourceExhausted,
            Self::Superseded => Code::Aborted,
            Self::Stopping | Self::Aged => Code::Unavailable,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Removed => "this node was removed from the cluster",
            Self::Unknown => "the cluster knows no such node",
            Self::CertificateExpired => "the client certificate has expired",
            Self::WrongNode => "the report names another node than the certificate",
            Self::Protocol => "a hello belongs in the first report, and only there",
            Self::Feature => "this server lacks a feature that the worker requires",
            Self::TooFast => "more reports than the limit",
            Self::Superseded => "another session of this node took over",
            Self::Full => "the server holds no more sessions",
            Self::Stopping => "the server stops or does not lead",
            Self::Aged => "the connection has reached its age: connect again",
        }
    }

    /// The status that the worker sees.
    pub fn status(self) -> Status {
        let mut status = Status::new(self.code(), self.text());
        status.metadata_mut().insert(KEY, MetadataValue::from_static(self.name()));
        status
    }

    /// Reads the name out of a status, on the worker's side.
    pub fn of(status: &Status) -> Option<Self> {
        Self::named(status.metadata().get(KEY)?.to_str().ok()?)
    }

    /// The inverse of [`Refusal::name`].
    pub(crate) fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|refusal| refusal.name() == name)
    }

    /// The inverse of `self as u8`.
    pub(crate) fn from_u8(number: u8) -> Option<Self> {
        ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_the_wire_and_its_number() {
        for refusal in ALL {
            assert_eq!(Refusal::of(&refusal.status()), Some(refusal));
            assert_eq!(Refusal::from_u8(refusal as u8), Some(refusal));
        }
        assert_eq!(Refusal::from_u8(0), None);
        assert_eq!(Refusal::of(&Status::permission_denied("other")), None);
    }
}
