//! The clock that all processes of a machine share, so that one can be told what another saw.

/// `CLOCK_MONOTONIC` in nanoseconds; Python's `time.monotonic_ns()`.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on() {
        let before = monotonic_ns();
        std::thread::yield_now();
        assert!(monotonic_ns() > before && before > 0);
    }
}
