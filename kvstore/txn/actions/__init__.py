"""What one request does to one key: pure functions over a reader into `Changes` (TiKV's `txn/actions`)."""
