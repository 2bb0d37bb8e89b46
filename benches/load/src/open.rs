//! Opens many connections, so many at once, and tries again those that fail.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;

use crate::error::LoadError;

/// Wait before a connection is tried again. Chosen: a server that sheds load needs a moment.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How to open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenPlan {
    pub(crate) count: usize,
    pub(crate) in_flight: usize,
    pub(crate) time: Duration,
}

/// Opens `count` connections with `open(index)`; each may be tried again until the time is up.
pub(crate) async fn open_all<T, F, A>(plan: OpenPlan, open: F) -> Result<Vec<T>, LoadError>
where
    T: Send + 'static,
    F: Fn(usize) -> A + Send + Sync + 'static,
    A: Future<Output = Result<T, String>> + Send,
{
    let until = Instant::now() + plan.time;
    let open = Arc::new(open);
    let last_error = Arc::new(Mutex::new(String::from("none")));
    let mut opened = Vec::with_capacity(plan.count);
    let mut opening = stream::iter(0..plan.count)
        .map(|index| {
            let (open, last_error) = (Arc::clone(&open), Arc::clone(&last_error));
            // A task each, so that the handshakes use every thread.
            tokio::spawn(async move { persist(index, until, open.as_ref(), &last_error).await })
        })
        .buffer_unordered(plan.in_flight);
    while let Some(result) = opening.next().await {
        match result {
            Ok(Some(connection)) => opened.push(connection),
            Ok(None) | Err(_) => break,
        }
    }
    if opened.len() == plan.count {
        return Ok(opened);
    }
    let why = last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Err(LoadError::Connect { connected: opened.len(), wanted: plan.count, why })
}

async fn persist<T, F, A>(
    index: usize,
    until: Instant,
    open: &F,
    last_error: &Mutex<String>,
) -> Option<T>
where
    F: Fn(usize) -> A,
    A: Future<Output = Result<T, String>>,
{
    let note = |why: String| *last_error.lock().unwrap_or_else(PoisonError::into_inner) = why;
    loop {
        match tokio::time::timeout_at(until.into(), open(index)).await {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(why)) => note(why),
            Err(_) => {
                note("no answer in time".into());
                return None;
            }
        }
        if Instant::now() + RETRY_AFTER >= until {
            return None;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn plan(count: usize) -> OpenPlan {
        OpenPlan { count, in_flight: 3, time: Duration::from_secs(20) }
    }

    #[tokio::test]
    async fn failures_are_tried_again() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let opened = open_all(plan(10), move |index| {
            let nth = counted.fetch_add(1, Ordering::SeqCst);
            async move { if nth.is_multiple_of(2) { Err("busy".into()) } else { Ok(index) } }
        })
        .await;
        let mut opened = opened.unwrap();
        opened.sort_unstable();
        assert_eq!(opened, (0..10).collect::<Vec<_>>());
        assert!(tries.load(Ordering::SeqCst) >= 20);
    }

    #[tokio::test]
    async fn the_last_error_is_told_when_time_is_up() {
        let short = OpenPlan { time: Duration::from_millis(1), ..plan(2) };
        let opened = open_all(short, |_| async { Err::<(), _>("it is down".into()) }).await;
        let error = opened.unwrap_err().to_string();
        assert_eq!(error, "0 of 2 connections opened; the last error: it is down");
    }
}
