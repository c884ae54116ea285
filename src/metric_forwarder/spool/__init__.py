"""Keeps points that cannot be delivered now, and dead letters. Loaded only if ``MF_SPOOL`` is set."""
