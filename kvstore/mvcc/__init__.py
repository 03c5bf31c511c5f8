"""Multi-version records in TiKV's formats, and reading them at a timestamp."""
