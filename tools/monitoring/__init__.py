"""What Prometheus and Grafana are given: rules and dashboards, generated from tables and from docs/metrics.md."""
