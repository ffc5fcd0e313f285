"""How an expression is written: its words, its grammar and its tree."""
