"""Rates: token buckets, one for all and one for each of many keys. Time is an argument: seconds."""

from __future__ import annotations

from collections import OrderedDict


class Bucket:
    """Holds up to `burst` permits and gains `per_second` of them."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._permits = burst
        self._filled_s: float | None = None

    def take(self, now_s: float) -> float:
        """Takes a permit.

        Returns:
            0.0 if there was one, else the seconds until there is.
        """
        if self._filled_s is not None:
            gained = max(0.0, now_s - self._filled_s) * self._per_second
            self._permits = min(self._burst, self._permits + gained)
        self._filled_s = now_s
        if self._permits >= 1.0:
            self._permits -= 1.0
            return 0.0
        return (1.0 - self._permits) / self._per_second


class Buckets:
    """A bucket for each key; the key that was used longest ago is forgotten first."""

    def __init__(self, per_second: float, burst: float, keys_max: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._keys_max = keys_max
        self._buckets: OrderedDict[int, Bucket] = OrderedDict()

    def take(self, key: int, now_s: float) -> float:
        """As `Bucket.take`."""
        bucket = self._buckets.pop(key, None) or Bucket(self._per_second, self._burst)
        self._buckets[key] = bucket
        if len(self._buckets) > self._keys_max:
            self._buckets.popitem(last=False)
        return bucket.take(now_s)
