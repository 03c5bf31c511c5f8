"""PyPI's tikv-client, a client nobody here wrote, against our placement drivers and stores."""
