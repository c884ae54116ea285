"""Old bugs of this project, and small changes of today's code, to count how many schedules the world needs to find each."""
