//! Several servers while all is well, and while some are not.

use super::rig::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_agree() {
    let cluster = Cluster::of(3).await;
    let token = cluster.token().await;
    for key in 0..50 {
        cluster.enrol(token, key).await;
    }
    cluster.converge().await;
}
