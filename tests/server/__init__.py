"""Tests of the store service, over the in-memory transport."""
