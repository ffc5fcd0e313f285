"""When repeated jobs are due (`cron`, `when_due`), and what starts them then (`scheduler`)."""
