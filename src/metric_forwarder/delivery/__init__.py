"""Points become outcomes: batches, requests, retries and pacing, within one deadline."""
