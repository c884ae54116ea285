"""Outcomes become the report, the log line and the reply."""
