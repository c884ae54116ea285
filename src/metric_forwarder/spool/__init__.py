"""Keep what cannot be delivered now, and dead letters. Loaded only when ``MF_SPOOL`` asks for it."""
