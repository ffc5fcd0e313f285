"""What the automations plugin answers over HTTP."""
