"""What survives kill -9, damaged files, a full disk and a second process."""
