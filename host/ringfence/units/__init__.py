"""Services of systemd's that start Ringfence: what their units say, and how they are installed and removed."""

from ringfence.units import telling
from ringfence.units.installing import File, Installation, Outcome, Settings, install, uninstall
from ringfence.units.text import HOST, SATELLITE, Service, environment_of, sysusers_of, unit_of

__all__ = [
    "HOST",
    "SATELLITE",
    "File",
    "Installation",
    "Outcome",
    "Service",
    "Settings",
    "environment_of",
    "install",
    "sysusers_of",
    "telling",
    "uninstall",
    "unit_of",
]
