"""The Grafana dashboards as code; `python -m dashboards` writes them to manifests/grafana."""
