"""Percolator's per-key actions, the commands that wrap them, and the scheduler that runs commands."""
