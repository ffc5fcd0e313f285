"""Delivery: messages are sent, again if need be, and those that cannot be are kept where people see them."""
