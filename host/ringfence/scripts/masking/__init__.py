"""Secrets that are blotted out of what a run gives back."""
