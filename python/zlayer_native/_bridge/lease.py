"""Leases and TTL: used as they are."""

from zlayer_native._native import AdaptiveTtlConfig, ExpiredLease, LeaseTable

__all__ = ["AdaptiveTtlConfig", "ExpiredLease", "LeaseTable"]
