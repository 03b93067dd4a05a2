"""Figures with their intervals, as people and programs read them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from retrieval.significance import Estimate


def plain_records(records: Mapping[str, Any]) -> dict[str, Any]:
    """Named records as JSON holds them."""
    return {name: asdict(record) for name, record in records.items()}


def figures(estimate: Estimate, sign: str = "") -> tuple[str, str]:
    """A value and its interval as they stand in a table."""
    value, low, high = (f"{x:{sign}.4f}" for x in (estimate.value, estimate.low, estimate.high))
    return value, f"{low} … {high}"
