"""The secrets plugin: named values that runs may have, kept encrypted and never readable back."""
