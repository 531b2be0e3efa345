"""Pictures of the dashboards, of what a Prometheus holds: drawn with Grafana's libraries, photographed by Chromium.

Grafana itself does not run here. Its published libraries do: units, colours, transformations, and the components that
draw time series, single values and bars. Tables and state timelines are drawn by code of this folder.
"""
