"""The health-checks plugin: scripts that look at systems again and again, on satellites and on the core."""
