"""TPC-H: the eight tables, their data from tpchgen-cli, the 22 queries in MySQL's dialect, and the check of answers."""
