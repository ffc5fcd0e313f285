"""One run from beginning to end: the policy is asked for, a sandbox planned and launched, and the result told."""
