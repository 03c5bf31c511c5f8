"""What an operator sees of a process: its log, configuration, metrics, status port, and how it starts and stops.

Nothing here is imported by the embedded database.
"""
