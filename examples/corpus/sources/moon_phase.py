"""The phase of the moon on a given day, good to about half a day."""

from datetime import date

#: A new moon, and the mean time between two of them in days.
KNOWN_NEW_MOON = date(2000, 1, 6)
SYNODIC_MONTH = 29.530588

NAMES = (
    "new moon",
    "waxing crescent",
    "first quarter",
    "waxing gibbous",
    "full moon",
    "waning gibbous",
    "last quarter",
    "waning crescent",
)


def age(day: date) -> float:
    """Days since the last new moon."""
    return (day - KNOWN_NEW_MOON).days % SYNODIC_MONTH


def phase(day: date) -> str:
    """One of the eight names."""
    return NAMES[round(age(day) / SYNODIC_MONTH * 8) % 8]
