"""No request lost: real clients in pods under every event of a release's life, judged request by request.

`python -m bench.no_request_lost` makes the table of docs/no-request-lost.md. `clients/` runs in a pod, `scene` and
`events` drive the cluster, `watcher` notes what was reported and when, `judge` decides (pure), `report` writes.
"""
