"""What whoever helps may see of an installation: see `ringfence support-bundle`."""
