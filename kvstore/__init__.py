"""The transactional key-value store: bytes in, bytes out, no knowledge of SQL."""
