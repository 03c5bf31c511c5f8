"""sqllogictest: the main SQL tests, as `.slt` files that any store runs (`python -m tests.slt --help`)."""
