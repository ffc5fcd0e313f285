"""What is run again and again: what it is given, what it keeps, and how it is carried out once."""
