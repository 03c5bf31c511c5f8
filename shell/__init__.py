"""The command line and the interactive shell; talks to the database through the DB-API only."""
