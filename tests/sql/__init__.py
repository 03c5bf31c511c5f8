"""SQL through the DB-API: random statements against other databases, transactions, threads, PEP 249's suite."""
