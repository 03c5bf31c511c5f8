"""Storage engines: ordered column families of bytes, in RocksDB or in memory."""
