"""The demo's analytic questions, and one that must always have the same answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """A question in words and in SQL."""

    title: str
    sql: str


QUESTIONS = (
    Question(
        "Which airlines fly most, and how late do they arrive?",
        """
        SELECT a.name AS airline, COUNT(*) AS flights, SUM(f.passengers) AS passengers,
               ROUND(AVG(f.arr_delay), 1) AS mean_delay_min
        FROM flights f JOIN airlines a ON a.carrier = f.carrier
        GROUP BY a.name ORDER BY flights DESC LIMIT 5""",
    ),
    Question(
        "Where do people go from each New York airport?",
        """
        SELECT origin, destination, flights, passengers
        FROM (
            SELECT f.origin, p.name AS destination, COUNT(*) AS flights, SUM(f.passengers) AS passengers,
                   ROW_NUMBER() OVER (PARTITION BY f.origin ORDER BY SUM(f.passengers) DESC) AS place
            FROM flights f JOIN airports p ON p.faa = f.dest
            GROUP BY f.origin, p.name
        ) AS ranked
        WHERE place <= 2 ORDER BY origin, place""",
    ),
    Question(
        "Does wind at departure make flights late?",
        """
        SELECT CASE WHEN w.wind_speed < 10 THEN 'under 10 mph' WHEN w.wind_speed < 20 THEN '10 to 20 mph'
                    ELSE 'over 20 mph' END AS wind,
               COUNT(*) AS flights, ROUND(AVG(f.dep_delay), 1) AS mean_delay_min,
               ROUND(100 * AVG(CASE WHEN f.dep_time IS NULL THEN 1 ELSE 0 END), 2) AS cancelled_percent
        FROM flights f JOIN weather w ON w.origin = f.origin AND w.time_hour = f.time_hour
        WHERE w.wind_speed IS NOT NULL
        GROUP BY wind ORDER BY mean_delay_min""",
    ),
    Question(
        "Whose planes are they, and how old?",
        """
        SELECT p.manufacturer, COUNT(DISTINCT p.tailnum) AS planes, COUNT(*) AS flights,
               ROUND(AVG(f.year - p.year), 1) AS mean_age
        FROM flights f JOIN planes p ON p.tailnum = f.tailnum
        GROUP BY p.manufacturer ORDER BY flights DESC LIMIT 4""",
    ),
)

TOTAL_PASSENGERS = "SELECT SUM(passengers) FROM flights"

ROUTES_BY_PASSENGERS = """
    SELECT origin, dest, SUM(passengers) AS passengers, ROUND(AVG(dep_delay), 1) AS mean_delay_min, COUNT(*) AS flights
    FROM flights GROUP BY origin, dest ORDER BY passengers DESC LIMIT 3"""
"""Runs while transactions change the rows it reads."""
