"""Messages become samples: one module for each payload format, one table."""
