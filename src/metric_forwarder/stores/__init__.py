"""What outlives an instance; each store is imported only when a setting asks for it."""
