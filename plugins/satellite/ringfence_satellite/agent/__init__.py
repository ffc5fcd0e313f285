"""The satellite's side: it connects to a host, obeys its policy and runs scripts through the shared runners.

It imports the sandbox, the runners and the protocol: never the database, the web framework or the plugin
host.
"""
