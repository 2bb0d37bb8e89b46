"""What users import in their own tests."""

from zlayer_native.testing.clock import ManualClock
from zlayer_native.testing.gil import hold_gil

__all__ = ["ManualClock", "hold_gil"]
