"""The receiver's protocol, pure: signing, return codes, regions, and the server's side of a request."""
