"""Silences, and which places are silenced now."""
