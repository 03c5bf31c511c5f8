"""Execution of plans: access paths, the direct executor, the DuckDB residual, and data changes."""
