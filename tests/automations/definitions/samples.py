"""Definitions that tests apply."""

from __future__ import annotations

RESTART_WEB = """name: restart-web
triggers:
  - hook: health-state-changed
    filter: event.status == "unhealthy" && event.system == "web"
steps:
  - id: restart
    run_shell:
      script: curl -fsS -X POST -H "Authorization: $DEPLOY_TOKEN" https://deploy.example.com/restart/web
      on: {selector: "role=gateway"}
      needs: {network: ["deploy.example.com:443"]}
      secrets: {DEPLOY_TOKEN: "Bearer {{ secrets.deploy }}"}
      timeout: 30s
  - id: look
    run_script: {kind: python, script: "def main(context): …"}
    when: artifacts.restart.exitCode == 0
  - notify: {channel: ops, text: "web restarted after {{ event.message }}"}
"""
SMALL = "name: small\nsteps:\n  - stop: {}\n"
