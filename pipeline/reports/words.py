"""Numbers as people read them."""

import re
from datetime import UTC, datetime

from pipeline.config import signed


def score(value: float | None, metric: str = "") -> str:
    """Three decimals: 0.913. Of a metric of which less is better as it is, not negated as it is compared."""
    return "-" if value is None else f"{signed(metric, value):.3f}"


def whole(value: int | None) -> str:
    """A whole number; a dash where there is none."""
    return "-" if value is None else str(value)


def interval(low: float, high: float, metric: str = "") -> str:
    """Both ends of a score's interval, short: .853-.963; where one is below 0 with a word between: -.032 to .963."""
    ends = sorted(signed(metric, end) for end in (low, high))
    short = [re.sub(r"^(-?)0\.", r"\1.", f"{end:.3f}") for end in ends]
    return (" to " if ends[0] < 0 else "-").join(short)


def rate(value: float) -> str:
    """A learning rate: 1.2e-3."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def share(value: float) -> str:
    """A share as per cent: 0.42 %."""
    return f"{100 * value:.2f} %"


def duration(seconds: float) -> str:
    """Seconds as 12.3 s, 4:05 or 1:02:03."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size(num_bytes: int) -> str:
    """Bytes as 812 kB, 1.4 MB or 2.1 GB."""
    value, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"


def age(since: datetime, now: datetime | None = None) -> str:
    """How long ago: 5 min, 3 h, 12 days."""
    seconds = ((now or datetime.now(UTC)) - since).total_seconds()
    if seconds < 3600:
        return f"{max(seconds, 0) / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"
