"""What this host can enforce: a model of it, the attempts that find it out, and what is remembered of them."""
