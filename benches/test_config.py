"""Loading a worker-tier configuration: from text to a validated, frozen value."""

from __future__ import annotations

import pytest

from zlayer_native.config import ClusterConfig, Config, load_config, render

WORKER = """\
name: worker-1
data_dir: /var/lib/zlayerd
http: {bind: "127.0.0.1:3669"}
cluster:
  mode: worker-tier
  role: worker
  servers:
    - 10.0.0.1:3670
    - 10.0.0.2:3670
    - 10.0.0.3:3670
  token_file: /run/secrets/zlayer-token
  heartbeat_min_ttl: 10s
  heartbeat_max_ttl: 10m
  labels: {zone: eu-1, gpu: a100, disk: ssd}
"""


@pytest.fixture
def config() -> Config:
    return Config(
        name="worker-1",
        data_dir="/var/lib/zlayerd",
        cluster=ClusterConfig.parse(
            {
                "mode": "worker-tier",
                "role": "worker",
                "servers": ["10.0.0.1:3670", "10.0.0.2:3670", "10.0.0.3:3670"],
                "token_file": "/run/secrets/zlayer-token",
                "labels": {"zone": "eu-1", "gpu": "a100", "disk": "ssd"},
            }
        ),
    )


def test_load_worker_tier_from_yaml(benchmark, tmp_path, config):
    path = tmp_path / "worker.yaml"
    path.write_text(WORKER)
    assert benchmark(load_config, path, env={}) == config


@pytest.mark.parametrize("form", ["toml", "json"])
def test_load_worker_tier_from(benchmark, tmp_path, config, form):
    path = tmp_path / f"worker.{form}"
    path.write_text(render(config, form))
    assert benchmark(load_config, path, env={}) == config


def test_parse_the_cluster_block_alone(benchmark, config):
    block = config.model_dump()["cluster"]
    assert benchmark(ClusterConfig.parse, block) == config.cluster


@pytest.mark.parametrize("form", ["yaml", "toml", "json"])
def test_render(benchmark, config, form):
    assert "worker-tier" in benchmark(render, config, form)
