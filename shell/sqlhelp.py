"""Short help on SQL for `\\h`: one shape per statement, enough to jog the memory."""

from __future__ import annotations

from shell.text import one_line

TOPICS: dict[str, str] = {
    "SELECT": """
SELECT [DISTINCT] expr [AS name], ... FROM table [AS name]
  [[LEFT | RIGHT | CROSS] JOIN table ON condition] ...
  [WHERE condition] [GROUP BY expr, ...] [HAVING condition]
  [ORDER BY expr [ASC | DESC], ...] [LIMIT count [OFFSET start]]
  [FOR UPDATE [NOWAIT | SKIP LOCKED]]
WITH name AS (SELECT ...) SELECT ...
SELECT ... UNION [ALL] SELECT ...
SELECT ... FROM table AS OF TIMESTAMP time""",
    "INSERT": """
INSERT [IGNORE] INTO table [(column, ...)] VALUES (expr | DEFAULT, ...), ...
  [ON DUPLICATE KEY UPDATE column = expr, ...]
INSERT INTO table [(column, ...)] SELECT ...
REPLACE INTO table [(column, ...)] VALUES (expr, ...), ...""",
    "UPDATE": """
UPDATE table SET column = expr, ... [WHERE condition] [ORDER BY expr, ...] [LIMIT count]""",
    "DELETE": """
DELETE FROM table [WHERE condition] [ORDER BY expr, ...] [LIMIT count]
TRUNCATE TABLE table""",
    "CREATE": """
CREATE DATABASE [IF NOT EXISTS] name
CREATE TABLE [IF NOT EXISTS] table (
  column type [NOT NULL] [DEFAULT value] [AUTO_INCREMENT] [PRIMARY KEY | UNIQUE], ...
  [PRIMARY KEY (column, ...)], [UNIQUE KEY name (column, ...)], [KEY name (column, ...)])
CREATE [UNIQUE] INDEX name ON table (column, ...)
CREATE [OR REPLACE] VIEW name [(column, ...)] AS SELECT ...""",
    "ALTER": """
ALTER TABLE table ADD [COLUMN] column type ... | DROP [COLUMN] column
ALTER TABLE table ADD [UNIQUE] INDEX name (column, ...) | DROP INDEX name
ALTER TABLE table RENAME TO name
ALTER VIEW name [(column, ...)] AS SELECT ...""",
    "DROP": """
DROP TABLE [IF EXISTS] table, ...
DROP DATABASE [IF EXISTS] name
DROP INDEX name ON table
DROP VIEW [IF EXISTS] name, ...""",
    "TRANSACTION": """
BEGIN [PESSIMISTIC | OPTIMISTIC]
START TRANSACTION [READ ONLY]
COMMIT | ROLLBACK
SAVEPOINT name | ROLLBACK TO name | RELEASE SAVEPOINT name""",
    "EXPLAIN": """
EXPLAIN statement            how each table is read, and the estimates
EXPLAIN ANALYZE statement    runs it: rows and times as well
ANALYZE TABLE table          gathers the statistics that plans are chosen by""",
    "SHOW": """
SHOW DATABASES | TABLES | COLUMNS FROM table | INDEX FROM table
SHOW CREATE TABLE table | CREATE VIEW view | CREATE DATABASE database
SHOW VARIABLES [LIKE pattern] | WARNINGS
DESCRIBE table""",
    "SET": """
SET [SESSION | GLOBAL] variable = value, ...
USE database""",
    "ADMIN": """
ADMIN CHECK TABLE table      sees that rows and indexes agree
BACKUP DATABASE TO 'directory'""",
}


def help_text(topic: str) -> str:
    """Returns the help on a statement, or the list of what there is help on."""
    words = topic.upper().split()
    for name, text in TOPICS.items():
        if words and (words[0] == name or (name == "TRANSACTION" and words[0] in _TRANSACTION_WORDS)):
            return text.lstrip("\n") + "\n"
    known = "\\h STATEMENT, where STATEMENT is " + ", ".join(TOPICS) + "\n"
    return f"no help on {one_line(topic)!r}\n{known}" if words else known


_TRANSACTION_WORDS = frozenset({"BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"})
