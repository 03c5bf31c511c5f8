"""Codecs between typed values and the store's bytes, on TiDB's layouts: keys, rows, datums, and both in bulk."""
