"""The catalog: databases, tables, columns and indexes, their changes, ids and statistics."""
