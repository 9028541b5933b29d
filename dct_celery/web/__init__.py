"""The room of dashboard and /metrics. Empty so far."""
