"""Numbers as people read them. Terminal, report and notes use the same forms."""

from __future__ import annotations

MINUS = "\u2212"


def amount(value: float | None) -> str:
    """A count with thin grouping up to a million, then with a unit: `52,724`, `3.4 M`."""
    if value is None:
        return "-"
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= limit:
            return f"{value / limit:.2f} {unit}"
    return f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes in decimal units: `512 B`, `40.2 MB`."""
    if value is None:
        return "-"
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.0f} B"


def seconds(value: float) -> str:
    """A duration: `0.42 s`, `12.3 s`, `4 min 05 s`, `2 h 03 min`."""
    if value < 1:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(share: float) -> str:
    """A share of one as a percentage: `12.5 %`; small ones keep two figures."""
    value = 100 * share
    if value == 0 or abs(value) >= 10:
        return f"{value:.1f} %"
    return f"{value:.2g} %" if abs(value) < 1 else f"{value:.1f} %"


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign, a real minus and `digits` decimals."""
    sign = MINUS if value < 0 else "+"
    return f"{sign}{abs(value):.{digits}f}"
