"""How a machine gets an identity and keeps it: the Enrollment service and its client (grpcio).

    service ── admission, renewal ──> identity (who may, what is signed)
                                      records (what was committed)
    client ─── dial, retry ─────────> identity (token, key, certificate, files)

Decides nothing about liveness and never sees a heartbeat. Generated types stay in `service` and
`client`.
"""
