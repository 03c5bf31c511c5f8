"""The coprocessor's request: a pipeline of executors over one table's keys, its wire form (tipb) and its execution."""
