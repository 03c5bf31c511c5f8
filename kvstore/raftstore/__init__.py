"""Many Raft groups over one engine: regions that split, merge and move (TiKV's raftstore)."""
