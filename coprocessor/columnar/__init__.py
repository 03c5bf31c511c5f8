"""The columnar replica: a DuckDB table per SQL table that follows the commits of the row store.

`replica` has the tables and gives views of them at a timestamp, `worker` builds them and applies commits in the
background, `table` is what is known of one table, `layout` how its columns lie in DuckDB, `files` the file they are in.
"""
