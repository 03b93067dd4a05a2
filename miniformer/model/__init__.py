"""Transformer parts that every model of the package shares."""
