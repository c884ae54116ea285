"""Samples become points: validation against the schema, series, and the time of each point."""
