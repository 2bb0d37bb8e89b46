"""`python -m zlayer_native.cli` is `zlayerd`."""

from zlayer_native.cli import main

main()
