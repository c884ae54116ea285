"""Where identities and spooled points are kept outside the process; each is imported only when a setting asks for it."""
