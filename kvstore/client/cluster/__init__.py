"""The client of a cluster: timestamps, routing, retries, locks and two-phase commit over the wire."""
