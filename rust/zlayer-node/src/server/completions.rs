//! Answers to commands, on their way to another event loop.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zlayer_raft::ProposeError;

use super::members::{Answered, AskedError};
use crate::wake::Wake;

/// The answer to one [`crate::ServerNode::submit`] or [`crate::ServerNode::ask`].
#[derive(Debug)]
pub struct Completion {
    /// The caller's number for it.
    pub ticket: u64,
    /// The answer, or why there is none.
    pub result: Result<Answered, AskedError>,
}

/// Commands in work, and answers that wait to be collected.
#[derive(Debug)]
pub(crate) struct Completions {
    commands_max: usize,
    /// Wakes whoever collects them.
    wake: Arc<Wake>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    in_work: usize,
    done: VecDeque<Completion>,
}

/// A command in work. Dropped without an answer, it is answered with "stopped".
#[derive(Debug)]
pub(crate) struct InWork {
    completions: Arc<Completions>,
    ticket: u64,
    /// Whether it takes one of the places for commands.
    is_counted: bool,
    result: Option<Result<Answered, AskedError>>,
}

impl Completions {
    pub(crate) fn new(commands_max: usize, wake: Arc<Wake>) -> Arc<Self> {
        Arc::new(Self { commands_max, wake, queue: Mutex::default() })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a command into work; `None` when too many are, and then its answer is queued already.
    pub(crate) fn begin(self: &Arc<Self>, ticket: u64) -> Option<InWork> {
        let mut queue = self.queue();
        if queue.in_work >= self.commands_max {
            let result = Err(ProposeError::Overloaded.into());
            queue.done.push_back(Completion { ticket, result });
            drop(queue);
            self.wake.wake();
            return None;
        }
        queue.in_work += 1;
        Some(self.in_work(ticket, true))
    }

    /// What will be answered some day, however long that takes: it counts as no command.
    pub(crate) fn promise(self: &Arc<Self>, ticket: u64) -> InWork {
        self.in_work(ticket, false)
    }

    fn in_work(self: &Arc<Self>, ticket: u64, is_counted: bool) -> InWork {
        InWork { completions: Arc::clone(self), ticket, is_counted, result: None }
    }

    /// Takes at most `max` answers, oldest first, and says whether more wait.
    pub(crate) fn take(&self, max: usize) -> (Vec<Completion>, bool) {
        let mut queue = self.queue();
        let count = queue.done.len().min(max);
        let taken = queue.done.drain(..count).collect();
        (taken, !queue.done.is_empty())
    }
}

impl InWork {
    /// The caller's number for it.
    pub(crate) fn ticket(&self) -> u64 {
        self.ticket
    }

    /// Queues the answer.
    pub(crate) fn answer(mut self, result: Result<Answered, AskedError>) {
        self.result = Some(result);
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        let result = self
            .result
            .take()
            .unwrap_or_else(|| Err(ProposeError::stopped(&"the server was stopped").into()));
        let mut queue = self.completions.queue();
        queue.in_work -= usize::from(self.is_counted);
        queue.done.push_back(Completion { ticket: self.ticket, result });
        drop(queue);
        // Here, so that an answer is also told of when the threads that work on it are gone.
        self.completions.wake.wake();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use super::*;
    use zlayer_core::command::Outcome;

    #[test]
    fn every_command_is_answered_once_and_in_order_of_completion() {
        let wake = Arc::new(Wake::new().unwrap());
        let completions = Completions::new(2, wake);
        let first = completions.begin(1).unwrap();
        let second = completions.begin(2).unwrap();
        assert!(completions.begin(3).is_none(), "two at once");
        second.answer(Ok(Outcome::Done.into()));
        drop(first);
        let (taken, more) = completions.take(2);
        assert!(more);
        assert_eq!(taken.iter().map(|c| c.ticket).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(taken[0].result, Err(ProposeError::Overloaded.into()));
        let (taken, more) = completions.take(9);
        assert!(!more);
        assert!(matches!(taken[0].result, Err(AskedError::Log(ProposeError::Stopped { .. }))));
        assert!(completions.begin(4).is_some(), "places are free again");
    }

    #[test]
    fn what_is_promised_takes_no_place() {
        let completions = Completions::new(1, Arc::new(Wake::new().unwrap()));
        let promised = completions.promise(1);
        let command = completions.begin(2).unwrap();
        drop(promised);
        assert!(completions.begin(3).is_none(), "the command is still in work");
        drop(command);
        assert!(completions.begin(4).is_some());
        let (taken, _) = completions.take(9);
        assert_eq!(taken.iter().map(|c| c.ticket).collect::<Vec<_>>(), [1, 3, 2, 4]);
    }
}
