"""The store server: TiKV's service over regions, and the process round it."""
