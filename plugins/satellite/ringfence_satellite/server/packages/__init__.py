"""The packages of satellites: which sets each is to have, the pieces that it asks for, and how far it is."""
