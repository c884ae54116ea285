"""A timer's job that fetches metrics from Prometheus targets. Loaded only when ``MF_SCRAPE_HOSTS`` asks for it."""
