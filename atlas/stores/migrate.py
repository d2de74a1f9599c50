"""Bringing the stores of a home up to date, in one call."""

from atlas.config import Home
from atlas.stores.duck import Duck
from atlas.stores.revisions import current


def upgrade(home: Home) -> str:
    """Make or upgrade the DuckDB store and return its revision. Raises StoreError if a newer version made it."""
    with Duck(home).writing() as connection:
        return str(current(connection))
