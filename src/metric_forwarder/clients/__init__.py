"""One module for each outside library or service: HTTP, Redis, Secrets Manager, COS, and work in the background."""
