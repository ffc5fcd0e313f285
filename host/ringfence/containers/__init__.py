"""What a container around Ringfence has to allow, and what the one around us does not."""
