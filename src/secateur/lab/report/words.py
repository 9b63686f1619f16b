"""Numbers as words: how counts, shares, sizes and times are written in the report."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "count",
    "decimals",
    "duration",
    "fraction",
    "join",
    "milliseconds",
    "percent",
    "plural",
    "points",
    "ratio",
    "seconds",
    "size",
]

MISSING = "–"


def count(number: float | None) -> str:
    """Write a whole number with thousands separated; a missing one as a dash.

    Example:
        >>> count(266200), count(None)
        ('266,200', '–')
    """
    return MISSING if number is None else f"{number:,.0f}"


def fraction(share: float | None, places: int = 4) -> str:
    """Write a share in [0, 1] as a decimal fraction, for tables.

    Example:
        >>> fraction(0.9), fraction(0.9712, 3)
        ('0.9000', '0.971')
    """
    return MISSING if share is None else f"{share:.{places}f}"


def percent(share: float | None) -> str:
    """Write a share in [0, 1] as a percentage, for prose; never rounded up to all or down to nothing.

    Example:
        >>> percent(0.9), percent(0.99976), percent(1.0)
        ('90.0 %', '99.98 %', '100.0 %')
    """
    if share is None:
        return MISSING
    for places in (1, 2, 3):
        text = f"{share * 100:.{places}f}"
        if float(text) not in (0.0, 100.0) or share in (0.0, 1.0):
            return f"{text} %"
    return "less than 0.001 %" if share < 0.5 else "more than 99.999 %"


def points(difference: float) -> str:
    """Write a difference of two shares as percentage points, without its sign.

    Example:
        >>> points(-0.0028), points(0.01), points(0.0002)
        ('0.3 points', '1.0 point', '0.02 points')
    """
    value = abs(difference) * 100
    text = f"{value:.1f}"
    if float(text) == 0 and value > 0:
        text = f"{value:.2g}"
    return f"{text} point" if text == "1.0" else f"{text} points"


def ratio(value: float | None) -> str:
    """Write how many times one number goes into another, to three digits.

    Example:
        >>> ratio(9.9876), ratio(4.9), ratio(1250.0), ratio(None)
        ('9.99', '4.9', '1,250', '–')
    """
    if value is None:
        return MISSING
    if value >= 100:
        return f"{value:,.0f}"
    text = f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".")


def size(number: float | None) -> str:
    """Write a number of bytes; 1 kB is 1,000 bytes.

    Example:
        >>> size(812), size(1064232), size(None)
        ('812 bytes', '1.06 MB', '–')
    """
    if number is None:
        return MISSING
    if number < 1000:
        return f"{number:.0f} bytes"
    for unit in ("kB", "MB"):
        number /= 1000
        if number < 999.5:
            return f"{number:.3g} {unit}"
    return f"{number / 1000:,.3g} GB"


def milliseconds(value: float | None) -> str:
    """Write a time in milliseconds with the digits that still mean something.

    Example:
        >>> milliseconds(0.0512), milliseconds(12.34)
        ('0.051 ms', '12.3 ms')
    """
    return MISSING if value is None else f"{value:.{decimals(value)}f} ms"


def duration(value: float | None) -> str:
    """Write a time given in milliseconds, one below a tenth of them in microseconds.

    Example:
        >>> duration(0.00366), duration(0.25), duration(12.34)
        ('3.66 µs', '0.250 ms', '12.3 ms')
    """
    return f"{1000 * value:.3g} µs" if value is not None and value < 0.1 else milliseconds(value)


def decimals(value: float) -> int:
    """Return how many decimals a time in milliseconds deserves: 3 below 1, none from 100 on.

    Example:
        >>> [decimals(value) for value in (0.0512, 1.5, 12.0, 250.0)]
        [3, 2, 1, 0]
    """
    return next((places for limit, places in ((1, 3), (10, 2), (100, 1)) if value < limit), 0)


def seconds(value: float | None) -> str:
    """Write a duration given in seconds.

    Example:
        >>> seconds(4.04), seconds(95), seconds(7260)
        ('4.0 s', '1 min 35 s', '2 h 1 min')
    """
    if value is None:
        return MISSING
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def plural(number: int, thing: str) -> str:
    """Write a number with its noun.

    Example:
        >>> plural(1, "cell"), plural(1200, "cell")
        ('1 cell', '1,200 cells')
    """
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def join(parts: Sequence[str]) -> str:
    """Join parts as an English list.

    Example:
        >>> join(["a"]), join(["a", "b"]), join(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""
