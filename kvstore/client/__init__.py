"""What the SQL layer uses of a store: snapshots, transactions, and the door to the embedded store."""
