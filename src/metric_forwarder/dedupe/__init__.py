"""Recognises points that come again: their identities, and the stores that remember their outcomes."""
