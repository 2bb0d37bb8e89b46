//! Limits of this machine, raised where possible and named where they are too low.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::LoadError;

/// Descriptors beyond the connections: files, eventfds, the interpreter's own.
const SPARE_FILES: u64 = 256;

/// Makes room for `connections` at once.
pub(crate) fn make_room(connections: usize) -> Result<(), LoadError> {
    let needed = connections as u64 + SPARE_FILES;
    raise_files(needed)?;
    let ports = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    // Where it can't be read nothing is known, and a connection that fails says so itself.
    match ports.ok().as_deref().and_then(count_ports) {
        Some(allowed) if allowed < connections as u64 => Err(LoadError::Host {
            what: "ephemeral ports",
            allowed,
            needed: connections as u64,
            mend: "widen net.ipv4.ip_local_port_range",
        }),
        _ => Ok(()),
    }
}

fn raise_files(needed: u64) -> Result<(), LoadError> {
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|current| current < allowed) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // What counts is what is allowed afterwards.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed >= needed {
        return Ok(());
    }
    let mend = "raise the hard limit (ulimit -Hn)";
    Err(LoadError::Host { what: "open files", allowed, needed, mend })
}

fn count_ports(range: &str) -> Option<u64> {
    let mut ends = range.split_ascii_whitespace().map(str::parse::<u64>);
    let (low, high) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some((high + 1).saturating_sub(low))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;

    #[test]
    fn ports_are_counted() {
        assert_eq!(count_ports("32768\t60999\n"), Some(28_232));
        assert_eq!(count_ports("60999 32768"), Some(0));
        assert_eq!(count_ports("x"), None);
    }

    #[test]
    fn a_low_limit_is_named() {
        make_room(1).unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum, "raised to the hard limit");
        if limit.maximum.is_some() {
            let error = raise_files(u64::MAX).unwrap_err().to_string();
            assert!(error.starts_with("open files: this machine allows "), "{error}");
        }
    }
}
