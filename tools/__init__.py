"""What the checks of this repository are made of; not part of the distribution."""
