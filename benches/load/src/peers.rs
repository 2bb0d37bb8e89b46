//! The in-turn phase against another server.

use std::time::Duration;

use zlayer_node::session::{Trust, parse_server};

use crate::error::LoadError;
use crate::etcd::EtcdTurn;
use crate::meter::{Meter, settled_rss};
use crate::open::{OpenPlan, open_all};
use crate::options::PeerOptions;
use crate::process::Process;
use crate::report::{Beats, Report};
use crate::report_turn::{ReportTurn, Target};
use crate::turn::{Turn, TurnPlan, in_turn};

/// etcd.
pub(crate) async fn etcd(options: PeerOptions) -> Result<Report, LoadError> {
    let (address, trust) = target(&options)?;
    let identity = trust.client(&options.cert_pem, &options.key_pem)?;
    let open = move |_| EtcdTurn::open(address.clone(), trust.clone(), identity.clone());
    compare(&options, open).await
}

/// A plain grpcio server with our messages.
pub(crate) async fn grpcio(options: PeerOptions) -> Result<Report, LoadError> {
    let (address, trust) = target(&options)?;
    let identity = trust.client(&options.cert_pem, &options.key_pem)?;
    let target = Target { address, trust, identity, incarnation: 1, watch: false };
    compare(&options, move |_| ReportTurn::open(target.clone())).await
}

fn target(options: &PeerOptions) -> Result<(String, Trust), LoadError> {
    let address = parse_server(options.server.first().unwrap_or_default())?;
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    let name = options.server_name.as_deref().unwrap_or(host);
    let trust = Trust::new(name, &options.ca_pem)?;
    Ok((address, trust))
}

async fn compare<T, F, A>(options: &PeerOptions, open: F) -> Result<Report, LoadError>
where
    T: Turn,
    F: Fn(usize) -> A + Send + Sync + 'static,
    A: Future<Output = Result<T, String>> + Send,
{
    let process = Process::new(options.server_pid)?;
    let rss_before = settled_rss(process).await?;
    let meter = Meter::start(process)?;
    let plan = OpenPlan {
        count: options.connections,
        in_flight: options.connect_in_flight,
        time: Duration::from_secs_f64(options.timeout_seconds),
    };
    let connections = open_all(plan, open).await?;
    let connect = meter.stage(options.connections)?;
    let rss_growth = settled_rss(process).await? as f64 - rss_before as f64;
    let plan = TurnPlan {
        in_flight: options.in_flight,
        warm_up: Duration::from_secs_f64(options.warm_up_seconds),
        measured: Duration::from_secs_f64(options.seconds),
    };
    let (figures, connections) = in_turn(connections, plan, &[process]).await?;
    drop(connections);
    let beats = Beats::from(&figures);
    let report = Report::new(options.connections, &beats, rss_growth, connect);
    Ok(Report { in_turn: Some(beats), ..report })
}
