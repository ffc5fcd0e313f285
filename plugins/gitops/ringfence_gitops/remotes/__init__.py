"""Remote repositories: how one is named, reached, fetched and read. Nothing of what is in them is believed here."""
