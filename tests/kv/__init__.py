"""Tests of the key-value store and the local oracle."""
