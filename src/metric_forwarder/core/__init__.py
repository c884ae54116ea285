"""The signer and sender: everything between a batch of points and a settled outcome."""
