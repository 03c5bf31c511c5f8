"""Typed columns over the key-value store: types, codecs, expressions, scans."""
