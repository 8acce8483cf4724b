"""What the rules of several settings have in common; a number that is None breaks none of them."""

from collections.abc import Iterator

from pipeline.errors import SECRET_KEY, Fault, fault


def above(where: str, value: float | None, least: float = 0.0) -> Iterator[Fault]:
    if value is not None and not value > least:
        yield fault(where, value, f"must be above {least:g}", f"Set {where} to a number above {least:g}")


def between(where: str, value: float | None, low: float, high: float) -> Iterator[Fault]:
    if value is not None and not low <= value <= high:
        rule = f"must be between {low:g} and {high:g}"
        yield fault(where, value, rule, f"Set {where} to a number from {low:g} to {high:g}")


def no_secret(where: str, address: str | None, instead: str) -> Iterator[Fault]:
    """A fault where an address holds a name, a password or a token: addresses are recorded, and shown."""
    inside = (address or "").partition("://")[2]
    if "@" in inside or SECRET_KEY.search(inside):  # an @ behind a slash too: a password may have one
        rule = "holds a name, a password or a token, which would be recorded and shown"
        yield fault(where, address, rule, f"Leave it out of the address, and {instead}")
