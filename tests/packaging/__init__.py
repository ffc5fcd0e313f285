"""What users install, and what keeps its parts apart."""
