"""Secrets over HTTP: a value can be written, and by no route be read."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and `Admin` is a local name.
from typing import Annotated, Any

from fastapi import Depends, Path, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr
from ringfence import AccessRule
from ringfence.bounded import STORABLE, storable
from ringfence.web import DEFAULT_LISTED, After, Limit, Principal, Problem, Router, page, require

from ringfence_secrets.service import SecretError
from ringfence_secrets.uses import MOST_USERS, Uses
from ringfence_secrets.vault import Vault
from ringfence_secrets.written import WrongNameError, WrongValueError, check_name, check_value


def _storable(value: SecretStr) -> SecretStr:
    storable(value.get_secret_value())
    return value


class SecretWrite(BaseModel):
    """A value to store."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    value: Annotated[SecretStr, AfterValidator(_storable)]


def build(vault: Vault, uses: Uses, rule: AccessRule) -> Router:
    """The routes. Each needs `rule`."""
    router = Router()
    Admin = Annotated[Principal, Depends(require(rule))]
    Name = Annotated[str, Path(max_length=64), STORABLE]

    @router.get("/secrets")
    async def list_secrets(_: Admin, after: After = None, limit: Limit = DEFAULT_LISTED) -> dict[str, Any]:
        listed = page(
            await vault.records(after=after or "", limit=limit + 1), limit, lambda record: record.name
        )
        return {"secrets": [record.to_wire() for record in listed.entries], "next": listed.next}

    @router.put("/secrets/{name}")
    async def set_secret(name: Name, body: SecretWrite, admin: Admin) -> dict[str, Any]:
        value = body.value.get_secret_value()
        try:
            check_name(name)
            check_value(value)
            return (await vault.set(name, value, by=admin.name)).to_wire()
        except WrongNameError as error:
            raise Problem(422, "The name cannot be used", detail=str(error)) from None
        except WrongValueError as error:
            raise Problem(422, "The value cannot be used", detail=str(error)) from None
        except SecretError as error:
            raise Problem(503, "The secret cannot be stored", detail=str(error)) from error

    @router.delete("/secrets/{name}", status_code=204)
    async def delete_secret(name: Name, admin: Admin) -> Response:
        if not await vault.delete(name, by=admin.name):
            raise _unknown(name)
        return Response(status_code=204)

    @router.get("/secrets/{name}/users")
    async def users(name: Name, _: Admin) -> dict[str, Any]:
        """What could not run without the secret, as far as plugins say so."""
        if not await vault.has(name):
            raise _unknown(name)
        found = await uses.of(name)
        return {"users": found[:MOST_USERS], "count": len(found)}

    @router.post("/reseal")
    async def reseal(_: Admin) -> dict[str, Any]:
        try:
            return {"resealed": list(await vault.reseal())}
        except SecretError as error:
            raise Problem(409, "A secret cannot be encrypted again", detail=str(error)) from error

    return router


def _unknown(name: str) -> Problem:
    return Problem(404, "No such secret", detail=f"the built-in store has no secret {name}")
