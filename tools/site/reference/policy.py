"""The sandbox policy, from its model."""

from __future__ import annotations

import json

from ringfence.sandbox import SandboxPolicy

from tools.site.tables import code, fields, table


def page() -> str:
    """The page."""
    schema = SandboxPolicy.model_json_schema(by_alias=True)
    rows = [(code(path), kind, default, meaning) for path, kind, default, meaning in fields(schema)]
    default = json.dumps(SandboxPolicy().model_dump(mode="json", by_alias=True), indent=2)
    return f"""# The policy

Each setting by its path, as `ringfence policy patch PATH=VALUE` takes it. [Changing the policy](../policy.md)
tells how it is changed, and [limits](../limits.md) what each layer holds.

{table(("setting", "value", "default", "meaning"), rows)}
## The shipped default

```json
{default}
```
"""
