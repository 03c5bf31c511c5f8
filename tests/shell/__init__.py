"""Tests of the command line and the interactive shell."""
