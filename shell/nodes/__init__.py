"""The composition roots of the servers: a store (`kv`) and a placement driver (`pd`) as processes."""
