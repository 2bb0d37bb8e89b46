//! Holding locks: acquiring them, renewing them, and noticing that one is lost. Whoever holds one through this server
//! need do nothing for it: neither an event loop nor the GIL is on the way of a renewal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use zlayer_core::command::{Command, HeldLock, Outcome, Refusal};

use super::completions::InWork;
use super::forward::{Forwarder, Request};
use super::members::{Answered, Asked, AskedError};
use super::shared::Shared;

/// Between two looks at whether a lock is free, while somebody waits for it. Chosen: a look is a map's.
const LOOK: Duration = Duration::from_millis(20);

/// Between two tries to renew. Chosen: several within what a lease has left.
const AGAIN: Duration = Duration::from_millis(100);

/// Parts of a lease's time after which it is renewed.
const RENEW_SHARE: u32 = 3;

/// Part of a lease's time that its holder gives away, for clocks that do not run alike.
const MARGIN_SHARE: u32 = 10;

/// What is to be held.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Which lock.
    pub name: String,
    /// 32 lower-case hex digits, made at random.
    pub holder: String,
    /// Who it is for, for people.
    #[serde(default)]
    pub owner: String,
    /// Time without a renewal after which it is free again, milliseconds.
    pub ttl_ms: u64,
    /// How long to wait while another one holds it, milliseconds; `None`: for ever.
    pub wait_ms: Option<u64>,
}

/// The locks that are held through this server.
pub(super) struct Holder {
    pub(super) shared: Arc<Shared>,
    pub(super) forwarder: Arc<Forwarder>,
    held: Mutex<HashMap<HeldLock, CancellationToken>>,
    /// What is waited for, by ticket.
    waits: Mutex<HashMap<u64, CancellationToken>>,
}

impl Holder {
    pub(super) fn new(shared: Arc<Shared>, forwarder: Arc<Forwarder>) -> Self {
        Self { shared, forwarder, held: Mutex::default(), waits: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<HeldLock, CancellationToken>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> MutexGuard<'_, HashMap<u64, CancellationToken>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a lock is about to be waited for, so that it can be abandoned from now on.
    pub(super) fn begin(&self, ticket: u64) -> CancellationToken {
        let abandoned = CancellationToken::new();
        self.waits().insert(ticket, abandoned.clone());
        abandoned
    }

    /// Whoever asked under this ticket wants the lock no more. One that is held already stays so.
    pub(super) fn abandon(&self, ticket: u64) {
        if let Some(abandoned) = self.waits().get(&ticket) {
            abandoned.cancel();
        }
    }

    /// Acquires a lock and holds it. `acquired` is answered by [`Outcome::Locked`] or by why not; then `ended`, when
    /// it is held no more: by a document with `lost`, the reason, or null where it was let go of.
    pub(super) async fn hold(
        self: Arc<Self>,
        wanted: Wanted,
        abandoned: CancellationToken,
        acquired: InWork,
        ended: InWork,
    ) {
        let ttl = Duration::from_millis(wanted.ttl_ms);
        let granted = self.acquire(&wanted, &abandoned).await;
        self.waits().remove(&acquired.ticket());
        let (sent, fence) = match granted {
            Ok(granted) => granted,
            Err(result) => {
                acquired.answer(result);
                return ended.answer(Ok(Answered::Document(json!({"lost": null}))));
            }
        };
        let lock = HeldLock { name: wanted.name, fence };
        if abandoned.is_cancelled() {
            acquired.answer(self.release(lock).await);
            return ended.answer(Ok(Answered::Document(json!({"lost": null}))));
        }
        let released = CancellationToken::new();
        self.held().insert(lock.clone(), released.clone());
        acquired.answer(Ok(Outcome::Locked { fence }.into()));
        let lost = tokio::select! {
            () = released.cancelled() => None,
            why = self.renew(&lock, sent, ttl) => Some(why),
        };
        self.held().remove(&lock);
        ended.answer(Ok(Answered::Document(json!({"lost": lost}))));
    }

    /// When the successful request was sent, and the fence.
    async fn acquire(
        &self,
        wanted: &Wanted,
        abandoned: &CancellationToken,
    ) -> Result<(Instant, u64), Result<Answered, AskedError>> {
        let Wanted { name, holder, owner, ttl_ms, wait_ms } = wanted.clone();
        let give_up = wait_ms.map(|wait_ms| Instant::now() + Duration::from_millis(wait_ms));
        let command = Command::AcquireLock { name: name.clone(), holder, owner, ttl_ms };
        loop {
            let sent = Instant::now();
            let request = Request::Command(command.clone());
            let answer = self.forwarder.answer_anywhere(request).await;
            let fence = match &answer {
                Ok(Answered::Outcome(Outcome::Locked { fence })) => return Ok((sent, *fence)),
                Ok(Answered::Outcome(Outcome::Refused {
                    refusal: Refusal::LockHeld { fence, .. },
                })) => *fence,
                _ => return Err(answer),
            };
            loop {
                let is_late = give_up.is_some_and(|give_up| Instant::now() >= give_up);
                if is_late || abandoned.is_cancelled() {
                    return Err(answer);
                }
                sleep(LOOK).await;
                // This server may not have heard of the grant that it was refused for.
                let is_free = self.shared.state.with_state(|state| {
                    state.applied_index() >= fence
                        && state.lock(&name).is_none_or(|held| held.fence != fence)
                });
                if is_free {
                    break;
                }
            }
        }
    }

    /// Renews until that is not possible any more; says why.
    async fn renew(&self, lock: &HeldLock, sent: Instant, ttl: Duration) -> String {
        let margin = ttl / MARGIN_SHARE;
        let mut ends = sent + ttl - margin;
        let mut next = sent + ttl / RENEW_SHARE;
        let mut why = "no server answered".to_owned();
        loop {
            sleep_until(next.min(ends)).await;
            let sent = Instant::now();
            if sent >= ends {
                return format!("it could not be renewed in time: {why}");
            }
            let request = Request::Asked(Asked::RenewLocks { items: vec![lock.clone()] });
            next = match timeout_at(ends, self.forwarder.answer_anywhere(request)).await {
                Ok(Ok(Answered::Document(answer))) => {
                    if answer["gone"].as_array().is_none_or(|gone| !gone.is_empty()) {
                        return "the cluster let go of it".into();
                    }
                    ends = sent + ttl - margin;
                    sent + ttl / RENEW_SHARE
                }
                Ok(Ok(Answered::Outcome(outcome))) => return format!("{outcome:?}"),
                Ok(Err(error)) => {
                    why = error.to_string();
                    Instant::now() + AGAIN
                }
                Err(_) => ends,
            };
        }
    }

    /// Lets go of a lock: it is renewed no more from here on.
    pub(super) async fn release(&self, lock: HeldLock) -> Result<Answered, AskedError> {
        if let Some(released) = self.held().remove(&lock) {
            released.cancel();
        }
        let command = Command::ReleaseLocks { items: vec![lock] };
        self.forwarder.answer_anywhere(Request::Command(command)).await
    }
}
