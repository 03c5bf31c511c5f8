"""Placement driver: timestamps, and later regions and stores."""
