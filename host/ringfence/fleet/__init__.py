"""What instances that share a database do together: one leads where only one may work, and each keeps copies."""
