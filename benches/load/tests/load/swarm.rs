//! Runs of the swarm.

use serde_json::{Value, json};

use crate::cluster::{Cluster, NEXT_BEAT_MS, TOKEN};
use crate::pki::CLUSTER;

fn options(cluster: &Cluster, workers: usize) -> Value {
    json!({
        "kind": "enroll_and_run", "server": cluster.address.to_string(), "cluster_id": CLUSTER,
        "ca_pem": cluster.state.ca.pem, "token": TOKEN, "workers": workers,
        "seconds": 1.0, "in_turn_seconds": 0.5, "warm_up_seconds": 0.1,
        "server_pid": std::process::id(), "threads": 1, "timeout_seconds": 30,
    })
}

fn run(options: &Value) -> Result<Value, String> {
    let report = zlayer_load::run(options.to_string().as_bytes());
    report.map(|report| serde_json::from_slice(&report).unwrap()).map_err(|error| error.to_string())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn a_swarm_enrols_connects_beats_and_leaves() {
    const WORKERS: u64 = 50;
    let cluster = Cluster::start();
    let mut options = options(&cluster, 50);
    // More than one connection may carry.
    options["enroll_connections"] = json!(1);
    let report = run(&options).unwrap();
    let seen = cluster.state.seen();
    assert_eq!(seen.nodes.len() as u64, WORKERS);
    assert!(seen.joins > 1 && seen.joins_cut == 0, "{} joins, {} cut", seen.joins, seen.joins_cut);
    assert_eq!(seen.hellos, 2 * WORKERS, "a session and a connection in turn for each");
    assert_eq!(seen.watches as u64, 2 * WORKERS);
    assert_eq!(seen.goodbyes, WORKERS);

    assert_eq!(report["workers"], WORKERS);
    assert_eq!(report["enroll"]["count"], WORKERS);
    assert_eq!(report["connect"]["count"], WORKERS);
    let (paced, in_turn) = (&report["paced"], &report["in_turn"]);
    // A beat at most each NEXT_BEAT_MS; the busiest machine leaves some.
    let most = number(&paced["seconds"]) * 1000.0 / NEXT_BEAT_MS as f64 + 1.0;
    let beats = number(&paced["heartbeats"]);
    assert!(beats >= WORKERS as f64 && beats <= most * WORKERS as f64, "{paced}");
    assert!(number(&report["peak_beats_per_second"]) >= beats / 2.0, "{report}");
    assert_eq!(report["heartbeats"], in_turn["heartbeats"], "the headline is the in-turn phase");
    // Beats of the warm-up and between the phases are the server's only.
    let counted = beats + number(&in_turn["heartbeats"]);
    assert!(counted <= seen.beats as f64 && counted >= seen.beats as f64 / 2.0);
    let (p50, p99) = (number(&report["ack_p50_ms"]), number(&report["ack_p99_ms"]));
    assert!(p50 > 0.0 && p99 >= p50);
    assert!(number(&report["heartbeats_per_cpu_second"]) > 0.0);
    assert!(number(&report["server_rss_bytes_per_worker"]) > 0.0);
    assert_eq!((&report["false_suspects"], &report["false_expiries"]), (&json!(0), &json!(0)));
    assert!(number(&report["machine"]["cores"]) >= 1.0);
}

#[test]
fn identities_can_be_signed_here_and_a_phase_can_be_left_out() {
    let cluster = Cluster::start();
    let mut options = options(&cluster, 10);
    options["token"] = Value::Null;
    let node_ids: Vec<u64> = (1000..1010).collect();
    options["identities"] = json!({"ca_key_pem": cluster.state.ca.key_pem, "node_ids": node_ids});
    options["phase"] = json!("in-turn");
    let report = run(&options).unwrap();
    assert_eq!(cluster.state.seen().registers, 0);
    assert_eq!(cluster.state.seen().hellos, 10);
    assert_eq!(cluster.state.seen().goodbyes, 10);
    for absent in ["enroll", "paced", "peak_beats_per_second"] {
        assert_eq!(report[absent], Value::Null);
    }
    options["phase"] = json!("paced");
    options["leave"] = json!(false);
    options["connect_rate"] = json!(100);
    let report = run(&options).unwrap();
    assert_eq!(report["in_turn"], Value::Null);
    assert_eq!(report["heartbeats"], report["paced"]["heartbeats"]);
    assert!(number(&report["connect"]["seconds"]) >= 0.09, "ten at a hundred a second");
    assert_eq!(cluster.state.seen().goodbyes, 10, "none more");
}

#[test]
fn a_busy_service_is_asked_again_with_the_same_key() {
    let cluster = Cluster::start();
    cluster.state.seen().busy = 7;
    let mut options = options(&cluster, 20);
    options["phase"] = json!("in_turn");
    run(&options).unwrap();
    let seen = cluster.state.seen();
    assert_eq!((seen.registers, seen.nodes.len()), (27, 20));
}

#[test]
fn a_token_that_does_not_admit_ends_the_run() {
    let cluster = Cluster::start();
    let mut options = options(&cluster, 5);
    options["token"] = json!("another");
    let error = run(&options).unwrap_err();
    assert!(error.starts_with("enrol worker 1 of 5: "), "{error}");
    assert!(error.ends_with("the token does not admit") && !error.contains("another"), "{error}");
}

#[test]
fn a_server_of_another_ca_gets_no_token() {
    let (cluster, other) = (Cluster::start(), Cluster::start());
    let mut options = options(&cluster, 5);
    options["ca_pem"] = json!(other.state.ca.pem);
    options["timeout_seconds"] = json!(0.5);
    let error = run(&options).unwrap_err();
    assert!(error.contains("not of this cluster's CA"), "{error}");
    assert_eq!(cluster.state.seen().registers, 0);
}

#[test]
fn nobody_there_is_told() {
    let cluster = Cluster::start();
    let mut options = options(&cluster, 5);
    options["server"] =
        json!(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    options["timeout_seconds"] = json!(0.3);
    let error = run(&options).unwrap_err();
    assert!(error.contains("can't connect"), "{error}");
}

#[test]
fn sessions_that_do_not_come_up_are_counted() {
    let cluster = Cluster::start();
    let mut options = options(&cluster, 3);
    let other = crate::pki::Ca::new();
    options["token"] = Value::Null;
    // Signed by a CA that the server does not know, under the right CA's name.
    options["identities"] = json!({"ca_key_pem": other.key_pem, "node_ids": [1, 2, 3]});
    options["timeout_seconds"] = json!(1);
    let error = run(&options).unwrap_err();
    assert!(error.starts_with("0 of 3 connections opened"), "{error}");
    assert!(error.contains("the server refused this certificate"), "{error}");
}
