"""What an automation is: its definition, read with the place of every mistake, and kept with every revision."""
