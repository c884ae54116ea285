"""Serve unchanged clients of the receiver in its place. Loaded only when ``MF_BRIDGE_ACCOUNTS`` opens it."""
