"""`python -m ringfence`: the same as the `ringfence` command."""

from ringfence.command import main

main()
