"""The Raft state machine: pure, in the shape of step, tick, ready and advance."""
