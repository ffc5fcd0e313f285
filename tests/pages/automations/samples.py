"""Definitions that the tests of these pages use."""

from __future__ import annotations

GREET = """\
name: greet
description: greets somebody
triggers:
  - manual: true
inputs:
  whom: {type: string, default: world}
  times: {type: integer, required: true}
  really: {type: boolean, default: true}
  more: {type: object}
steps:
  - id: hello
    run_shell:
      script: for n in $(seq $RINGFENCE_INPUT_TIMES); do echo "hello $RINGFENCE_INPUT_WHOM"; done
"""
HOOKED = """\
name: hooked
triggers:
  - hook: automation-changed
    filter: event.name == "watched"
  - webhook: true
  - cron: 0 3 * * *
    zone: Europe/Berlin
conditions:
  - trigger.kind != "timetable"
mode: parallel
max: 3
steps:
  - id: pause
    wait: {for: 1ms}
  - id: pick
    choose:
      - when: trigger.kind == "hook"
        steps:
          - id: end
            stop: {status: failed, message: "{{ trigger.hook }} has happened"}
      - otherwise: [{id: fine, wait: {for: 1ms}}]
  - id: both
    parallel:
      branches:
        - [{id: left, wait: {for: 1ms}}]
        - [{id: right, wait: {for: 1ms}}]
  - id: each
    repeat:
      over: "[1, 2]"
      as: one
      atOnce: 2
      steps: [{id: look, when: one > 1, wait: {for: 1ms}}]
  - id: last
    continueOnError: true
    wait: {until: "false", every: 1s, timeout: 1s}
"""
SLOW = """\
name: slow
steps:
  - id: sleep
    wait: {for: 1h}
"""
WATCHED = "name: watched\nsteps: [{stop: {}}]\n"
REFUSED = """\
name: broken
steps:
  - id: fails
    run_shell: {script: "echo oh >&2; exit 3"}
"""
