"""The automations plugin: something happens, and what a definition says is done."""
