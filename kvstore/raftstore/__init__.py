"""Many Raft groups over one engine: the regions of a store."""
