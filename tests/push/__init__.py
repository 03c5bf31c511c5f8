"""Push-down by the SQL layer, against a store in this process that answers as a cluster of regions does."""
