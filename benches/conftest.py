"""Benchmarks are kept apart from tests: `make bench` runs them."""

from __future__ import annotations
