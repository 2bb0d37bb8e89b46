//! What a server's process has used, from `/proc`, and where it runs.

use serde::Serialize;

use crate::error::LoadError;

/// A process under observation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pid: u32,
}

impl Process {
    /// Checks that it can be read.
    pub(crate) fn new(pid: u32) -> Result<Self, LoadError> {
        let process = Self { pid };
        process.cpu_seconds()?;
        Ok(process)
    }

    /// Checks that each can be read.
    pub(crate) fn all(pids: &[u32]) -> Result<Vec<Self>, LoadError> {
        pids.iter().map(|pid| Self::new(*pid)).collect()
    }

    /// User and system time of all its threads so far.
    pub(crate) fn cpu_seconds(self) -> Result<f64, LoadError> {
        let stat = self.read("stat")?;
        let ticks = cpu_ticks(&stat).ok_or_else(|| self.fail("stat has another form"))?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Memory that it holds now.
    pub(crate) fn rss_bytes(self) -> Result<u64, LoadError> {
        let statm = self.read("statm")?;
        let pages: Option<u64> = statm.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok());
        let pages = pages.ok_or_else(|| self.fail("statm has another form"))?;
        Ok(pages * rustix::param::page_size() as u64)
    }

    fn read(self, file: &str) -> Result<String, LoadError> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid))
            .map_err(|error| self.fail(&error.to_string()))
    }

    fn fail(self, why: &str) -> LoadError {
        LoadError::Process { pid: self.pid, why: why.into() }
    }
}

/// User and system time of several processes so far, together.
pub(crate) fn cpu_seconds(processes: &[Process]) -> Result<f64, LoadError> {
    processes.iter().map(|process| process.cpu_seconds()).sum()
}

/// utime + stime. The command's name comes before them and may contain anything, so count from its last bracket.
fn cpu_ticks(stat: &str) -> Option<u64> {
    const UTIME_AFTER_NAME: usize = 11;
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(UTIME_AFTER_NAME);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The machine of a result.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    kernel: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Self { cores, kernel }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_skipped() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(cpu_ticks(stat), Some(200));
        assert_eq!(cpu_ticks("42 (a"), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let process = Process::new(std::process::id()).unwrap();
        let before = process.cpu_seconds().unwrap();
        // Some ticks of work; each look checks that the loop can end.
        while process.cpu_seconds().unwrap() <= before {}
        assert!(process.rss_bytes().unwrap() > 100_000);
        let error = Process::new(u32::MAX).unwrap_err().to_string();
        assert!(error.starts_with("server process 4294967295: "), "{error}");
    }
}
