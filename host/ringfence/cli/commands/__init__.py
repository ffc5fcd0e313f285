"""The host's own commands; `ringfence.cli.plugged` names them beside those of plugins."""
