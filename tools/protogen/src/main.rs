//! Generates the Rust side of `proto/` into the folder named by the first argument.

use std::path::Path;

/// Packages with a Rust side; Enrollment's service is Python's alone, its messages are used by the load swarm.
const FILES: [&str; 3] = [
    "zlayer/cluster/v1/control_plane.proto",
    "zlayer/cluster/v1/enrollment.proto",
    "zlayer/raft/v1/peers.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(proto_dir), Some(out_dir)) = (args.next(), args.next()) else {
        return Err("usage: zlayer-protogen PROTO_DIR OUT_DIR".into());
    };
    let descriptors = protox::compile(FILES, [&proto_dir])?;
    std::fs::create_dir_all(Path::new(&out_dir))?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::SmallCodec")
        // Entries and snapshots are passed on without a copy.
        .bytes(".zlayer.raft.v1")
        .out_dir(out_dir)
        .compile_fds(descriptors)?;
    Ok(())
}
