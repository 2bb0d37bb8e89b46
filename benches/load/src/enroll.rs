//! Enrols workers through the cluster's own service, as `zlayerd` does, only many at once.

use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use tonic::{Code, Status};
use zlayer_node::session::{Identity, Requests, Trust, dial};
use zlayer_wire::v1::enrollment_client::EnrollmentClient;
use zlayer_wire::v1::{NodeProfile, RegisterRequest};

use crate::error::LoadError;
use crate::keys;
use crate::options::SwarmOptions;

/// Bytes of one join connection that the calls may use in each direction. The server's port cuts at 64 KiB; the
/// handshake and the frames need the rest.
const CONNECTION_BYTES: usize = 40 * 1024;
/// Bytes of one answer with its headers: two certificates. Measured at 1.2 KiB.
const ANSWER_BYTES: usize = 2 * 1024;
/// Headers and frames of one call.
const CALL_OVERHEAD_BYTES: usize = 512;
const USER_TIMEOUT: Duration = Duration::from_secs(12);
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// The service's hint when to come back, in its trailing metadata.
const RETRY_AFTER_KEY: &str = "zlayer-retry-after-ms";
/// Longest wait that a hint can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// One enrolled worker.
pub(crate) struct Worker {
    pub(crate) node_id: u64,
    pub(crate) identity: Identity,
}

/// Takes the wanted number of identities out of the token or the CA key.
pub(crate) async fn identities(
    options: &SwarmOptions,
    addresses: &[String],
    trust: &Trust,
) -> Result<Vec<Worker>, LoadError> {
    match (&options.token, &options.identities) {
        (Some(token), _) => register_all(options, addresses, trust, token).await,
        (None, Some(given)) => {
            let ca_key = &given.ca_key_pem;
            let signer = keys::Signer::new(&options.cluster_id, &options.ca_pem, ca_key)?;
            let sign = |node_id: &u64| {
                let key = keys::key()?;
                let certificate = signer.sign_worker(*node_id, &key)?;
                worker(trust, *node_id, certificate, &key)
            };
            given.node_ids.iter().map(sign).collect()
        }
        // The options are checked.
        (None, None) => Ok(Vec::new()),
    }
}

fn worker(
    trust: &Trust,
    node_id: u64,
    certificate: CertificateDer<'static>,
    key: &KeyPair,
) -> Result<Worker, LoadError> {
    let identity = trust.client_der(vec![certificate], keys::key_der(key))?;
    Ok(Worker { node_id, identity })
}

/// What the join connections share.
struct Enrolment<'a> {
    /// `host:port` of each server. A connection after a failed one goes to the next.
    addresses: &'a [String],
    token: &'a str,
    join: Trust,
    anonymous: Identity,
    trust: &'a Trust,
    workers: usize,
    in_flight: usize,
    until: Instant,
    state: Mutex<State>,
}

struct State {
    /// Keys that have no certificate yet. A failed call is repeated with the same key: the service then counts
    /// one use.
    waiting: Vec<KeyPair>,
    done: Vec<Worker>,
}

async fn register_all(
    options: &SwarmOptions,
    addresses: &[String],
    trust: &Trust,
    token: &str,
) -> Result<Vec<Worker>, LoadError> {
    let join = Trust::of_join(&options.cluster_id, &options.ca_pem)?;
    let waiting: Vec<_> = (0..options.workers).map(|_| keys::key()).collect::<Result<_, _>>()?;
    let done = Vec::with_capacity(options.workers);
    let enrolment = Arc::new(Enrolment {
        addresses,
        token,
        anonymous: join.anonymous()?,
        join,
        trust,
        workers: options.workers,
        in_flight: options.enroll_in_flight,
        until: Instant::now() + Duration::from_secs_f64(options.timeout_seconds),
        state: Mutex::new(State { waiting, done }),
    });
    try_join_all((0..options.enroll_connections).map(|lane| enrolment.work(lane))).await?;
    Ok(std::mem::take(&mut enrolment.lock().done))
}

impl Enrolment<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, why: impl Into<String>) -> LoadError {
        let worker = self.lock().done.len() + 1;
        LoadError::Enroll { worker, workers: self.workers, why: why.into() }
    }

    /// One join connection after another, until no key waits.
    async fn work(&self, lane: usize) -> Result<(), LoadError> {
        let mut addresses = self.addresses.iter().cycle().skip(lane % self.addresses.len());
        let per_connection = CONNECTION_BYTES
            / (CALL_OVERHEAD_BYTES + ANSWER_BYTES.max(self.token.len() + CALL_OVERHEAD_BYTES));
        while !self.lock().waiting.is_empty() {
            // A cycle of at least one never ends.
            let Some(address) = addresses.next() else { break };
            let dialled = dial(address, &self.join, &self.anonymous, USER_TIMEOUT).await;
            let (requests, carrier) = match dialled {
                Ok(dialled) => dialled,
                Err(failure) => {
                    self.pause(&failure.to_string(), RETRY_AFTER).await?;
                    continue;
                }
            };
            let task = carrier.spawn();
            let client = EnrollmentClient::with_origin(requests, self.join.origin());
            let calls_left = AtomicUsize::new(per_connection.max(1));
            let lanes = (0..self.in_flight).map(|_| self.call_in_turn(client.clone(), &calls_left));
            for lane in join_all(lanes).await {
                lane?;
            }
            drop(client);
            task.finish().await;
        }
        Ok(())
    }

    async fn call_in_turn(
        &self,
        client: EnrollmentClient<Requests>,
        calls_left: &AtomicUsize,
    ) -> Result<(), LoadError> {
        let take = |n: usize| n.checked_sub(1);
        while calls_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            let Some(key) = self.lock().waiting.pop() else { break };
            match self.register(client.clone(), &key).await {
                Ok(worker) => self.lock().done.push(worker),
                Err(Refused::Final(error)) => return Err(error),
                Err(Refused::Retry(why, wait)) => {
                    self.lock().waiting.push(key);
                    self.pause(&why, wait).await?;
                    break;
                }
            }
        }
        Ok(())
    }

    async fn register(
        &self,
        mut client: EnrollmentClient<Requests>,
        key: &KeyPair,
    ) -> Result<Worker, Refused> {
        let request = RegisterRequest {
            bootstrap_token: self.token.to_owned(),
            csr_der: keys::request_der(key).map_err(Refused::Final)?,
            profile: Some(NodeProfile {
                os: std::env::consts::OS.into(),
                arch: std::env::consts::ARCH.into(),
                version: env!("CARGO_PKG_VERSION").into(),
                ..NodeProfile::default()
            }),
            labels: std::collections::HashMap::new(),
        };
        let answer = client.register(request).await.map_err(|status| self.judge(&status))?;
        let answer = answer.into_inner();
        let certificate = CertificateDer::from(answer.certificate_der);
        worker(self.trust, answer.node_id, certificate, key).map_err(Refused::Final)
    }

    /// A hint means that a repeat helps. Without one, only what the connection did passes by itself.
    fn judge(&self, status: &Status) -> Refused {
        let why = format!("{:?}: {}", status.code(), status.message());
        let hint = status.metadata().get(RETRY_AFTER_KEY).and_then(|hint| hint.to_str().ok());
        if let Some(hint) = hint.and_then(|hint| hint.parse().ok()) {
            return Refused::Retry(why, Duration::from_millis(hint).min(RETRY_AFTER_MAX));
        }
        let of_connection = status.source().is_some();
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                Refused::Retry(why, RETRY_AFTER)
            }
            _ if of_connection => Refused::Retry(why, RETRY_AFTER),
            _ => Refused::Final(self.fail(why)),
        }
    }

    async fn pause(&self, why: &str, wait: Duration) -> Result<(), LoadError> {
        if Instant::now() >= self.until {
            return Err(self.fail(format!("time is up; the last error: {why}")));
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Why a call brought no certificate.
enum Refused {
    Retry(String, Duration),
    Final(LoadError),
}
