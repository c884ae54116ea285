"""Recognise points that come again: their identities, and the stores that remember what became of them."""
