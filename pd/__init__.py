"""Placement driver: timestamps and ids, which region is where, and where it ought to be."""
